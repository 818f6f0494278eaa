/** The sampler's thread by itself, over sources that do what no file can be made to do: `addon/test/sampler_test.cc` has the scenarios. */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../../addon/test/native-fixture.js'

const addon = join(import.meta.dirname, '..', '..', 'addon')
const sources = ['common/sampler.cc', 'common/sampled_target.cc', 'common/sampler_events.cc', 'test/sampler_test.cc']
const sanitizer = process.env['BACKDOORS_SANITIZER']
// The compiler and the program have runtime libraries of their own.
const { LD_PRELOAD: _, ...environment } = process.env
let program = ''

beforeAll(() => {
  program = join(temporaryFolder(), 'sampler-test')
  const flags = ['-std=c++20', '-O1', '-g', '-Wall', '-Wextra', '-Werror', '-pthread', ...(sanitizer === undefined ? [] : [`-fsanitize=${sanitizer}`])]
  execFileSync(process.env['CXX'] ?? 'g++', [...flags, `-I${addon}`, ...sources.map((source) => join(addon, source)), '-o', program], { env: environment })
}, 180_000)

it('holds to its rules, whatever sources do', { timeout: 180_000 }, () => {
  const output = execFileSync(program, { env: environment, encoding: 'utf8' })
  expect(output.trimEnd().split('\n')).toEqual([
    'TheHeapGivesTheEarliest',
    'PeersThatDoNotAnswerHoldUpNobody',
    'APeerThatDoesNotAnswerBecomesUnreachableAndIsAskedSeldom',
    'AllThatAreDueArePostedBeforeAnyIsAwaited',
    'RefusedPostsAreTriedAgainAndToldWithTheirCause',
    'TargetsComeAndGoWhileTheThreadRuns',
    'ARemovedTargetIsKeptUntilItsReadHasEnded',
    'RoundTripsAreCountedByTheirSize',
    'WhatIsNotPermittedIsTold',
  ])
})
