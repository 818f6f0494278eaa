#!/usr/bin/env node
/** The `backdoors` program. */
import { ignoreBrokenPipe } from './output.js'
import { run } from './run.js'

ignoreBrokenPipe(process.stdout)
ignoreBrokenPipe(process.stderr)
const exitCode = await run(process.argv.slice(2), { stdout: process.stdout, stderr: process.stderr, env: process.env })
// Not `process.exit`: what was written to a pipe has to get out first. A command may have set a code of its own.
if (exitCode !== 0) process.exitCode = exitCode
