// Names and meanings of work completion statuses.
#pragma once

#include <infiniband/verbs.h>

namespace backdoors::verbs {

// As in src/errors.ts, e.g. "WC_RETRY_EXC_ERR"; a status this table does not know is a WC_GENERAL_ERR.
const char* StatusName(ibv_wc_status status);

// What most likely happened, for the error's message.
const char* StatusMeaning(ibv_wc_status status);

const char* OpcodeName(ibv_wr_opcode opcode);

}  // namespace backdoors::verbs
