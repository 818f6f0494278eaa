/** All scenarios, in the order of `rig list`. */

import type { Scenario } from '../scenario.js';
import { perftest } from './perftest.js';

export const scenarios: readonly Scenario[] = [perftest];
