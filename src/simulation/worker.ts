/** A thread that runs one seed after another (`seeds.ts`). */
import { parentPort } from 'node:worker_threads'
import { runScenario } from './run.js'
import { drawScenario } from './scenario.js'
import type { Job } from './seeds.js'

parentPort?.on('message', ({ seed, scenario }: Job) => {
  void runScenario(drawScenario(seed, scenario)).then((outcome) => {
    // Nobody reads the story of a run in which all was well.
    parentPort?.postMessage(outcome.ok ? { ...outcome, story: [] } : outcome)
  })
})
