#!/usr/bin/env node
/**
 * Builds the native addon: the package's install script. Quiet unless something is wrong.
 *
 *     node addon/build.mjs [--strict] [--without-verbs] [--sanitize=address,undefined | --sanitize=thread] [--folder=FOLDER]
 *
 * --strict          warnings are errors, as with BACKDOORS_STRICT=1 in the environment
 * --without-verbs   builds the other targets only
 * --sanitize        builds with a sanitizer of the compiler, into .cache/addon-<sanitizer> unless a folder is given
 * --folder          builds into another folder of the package than itself; BACKDOORS_ADDON_DIR=FOLDER/build/Release selects it
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { delimiter, dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const require = createRequire(import.meta.url)

/** Does the command exist, and succeed? */
function succeeds(command, ...args) {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0
}

function fail(message) {
  process.stderr.write(`backdoors: ${message}\n`)
  process.exit(1)
}

/** node-gyp would explain each of these at length, one at a time, and differently. */
function checkTools() {
  const compiler = (process.env.CXX ?? 'g++').split(' ')
  const missing = []
  if (!succeeds(...compiler, '-std=c++20', '-fsyntax-only', '-x', 'c++', '/dev/null')) missing.push('g++ (10 or newer, for C++20)')
  if (!succeeds('make', '--version')) missing.push('make')
  if (!succeeds(process.env.PYTHON ?? 'python3', '--version')) missing.push('python3')
  if (missing.length === 0) return
  fail(
    `the native addon cannot be built, because this machine lacks: ${missing.join(', ')}.\n` +
      '  Debian, Ubuntu:  apt-get install g++ make python3\n' +
      '  Fedora, RHEL:    dnf install gcc-c++ make python3\n' +
      '  Alpine:          apk add g++ make python3 linux-headers\n' +
      'Then run "npm rebuild backdoors".',
  )
}

/** Node's headers where they were installed with Node itself, so that nothing has to be downloaded. */
function nodeHeaders() {
  // node-gyp takes this one up by itself.
  if (process.env.npm_config_nodedir) return process.env.npm_config_nodedir
  const prefix = resolve(dirname(process.execPath), '..')
  return existsSync(join(prefix, 'include', 'node', 'node_api.h')) ? prefix : undefined
}

/** node-gyp builds beneath the folder of binding.gyp; another folder gets the sources by symbolic links. */
function prepareFolder(folder) {
  mkdirSync(folder, { recursive: true })
  for (const name of ['binding.gyp', 'addon']) {
    const link = join(folder, name)
    if (!existsSync(link)) symlinkSync(relative(folder, join(root, name)), link)
  }
}

function build(folder, options) {
  const headers = nodeHeaders()
  const variables = [
    ...(options.strict ? ['-Dstrict=1'] : []),
    ...(options['without-verbs'] ? ['-Dhas_verbs=0'] : []),
    ...(options.sanitize === undefined ? [] : [`-Dsanitize=${options.sanitize}`]),
  ]
  const nodeGyp = (command, ...args) =>
    spawnSync(process.execPath, [require.resolve('node-gyp/bin/node-gyp.js'), command, '--directory', folder, ...args], {
      encoding: 'utf8',
      maxBuffer: 1 << 28,
      // binding.gyp runs node: it shall be this one.
      env: { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH ?? ''}` },
    })
  const steps = [
    () => nodeGyp('configure', ...(headers === undefined ? [] : ['--nodedir', headers]), '--', ...variables),
    () => nodeGyp('build', '--jobs', String(availableParallelism())),
  ]
  for (const step of steps) {
    const { status, stdout, stderr, error } = step()
    if (status === 0) continue
    process.stderr.write(`${stdout}${stderr}`)
    const offline =
      headers === undefined
        ? " Node's headers were not found beside node and had to be downloaded; where that is impossible, set npm_config_nodedir to the folder that holds their include/node."
        : ''
    fail(`the native addon could not be built; the output above says why.${offline}${error === undefined ? '' : ` ${error.message}`}`)
  }
}

const { values: options } = parseArgs({
  options: {
    strict: { type: 'boolean', default: process.env.BACKDOORS_STRICT === '1' },
    'without-verbs': { type: 'boolean', default: false },
    sanitize: { type: 'string' },
    folder: { type: 'string' },
  },
})
checkTools()
const named = options.folder ?? (options.sanitize === undefined ? undefined : join('.cache', `addon-${options.sanitize.replaceAll(',', '-')}`))
const folder = named === undefined ? root : resolve(root, named)
if (folder !== root) prepareFolder(folder)
if (!options['without-verbs'] && !succeeds('pkg-config', '--exists', 'libibverbs')) {
  process.stdout.write(
    'backdoors: verbs target skipped: pkg-config finds no libibverbs (apt-get install libibverbs-dev pkg-config, then npm rebuild backdoors).\n',
  )
}
build(folder, options)
