/** The certificates of a cluster: its authority, its nodes' keys, its revocation list. */
export { initAuthority, openAuthority } from './authority.js'
export type { Authority, InitAuthorityOptions } from './authority.js'
export { issueNode, revokeNode } from './issue.js'
export type { IssuedNode, IssueOptions, RevokeResult } from './issue.js'
export { nodeNameOf } from './node-certificate.js'
export { checkNodeKeys, loadNodeKeys } from './node-keys.js'
export type { NodeKeys, NodeKeyTexts } from './node-keys.js'
export { assertName, isNodeName, maxNameLength } from './node-name.js'
