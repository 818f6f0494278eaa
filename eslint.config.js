// What the type checker cannot see: the layers, the sizes of files and functions, promises left alone.
import js from '@eslint/js'
import tseslint from 'typescript-eslint'

/**
 * The layers of src/, lowest first. A file may import from its own layer and from those before it; what stands in
 * one row may not import from each other. Everything else of this configuration that is about layers follows from
 * this list.
 */
const layers = [
  ['errors.ts', 'safeguards.ts'],
  ['keys', 'native'],
  ['fabric'],
  ['region'],
  ['monitor'],
  ['recovery'],
  ['kernel'],
  ['servers'],
  ['daemon'],
  ['simulation'],
  ['cli'],
]

const names = layers.flat()
const isFolder = (name) => !name.endsWith('.ts')
const moduleOf = (name) => (isFolder(name) ? `${name}/` : `${name.replace(/\.ts$/, '.js')}$`).replaceAll('.', '\\.')

/** Modules outside src/ that no part of the package may need. */
const outside = { regex: '^(\\.\\./)+(addon|ci|examples|hwtests)/', message: 'src/ stands alone: what is published must not import what is not.' }
const loading = { name: 'node:module', importNames: ['createRequire'], message: 'Only src/native loads the addon.' }
const binaries = { regex: '\\.node$', message: 'Only src/native loads the addon.' }

/** The layers that `name` must not import: those above it, and its neighbours. */
function forbiddenTo(name) {
  const own = layers.findIndex((layer) => layer.includes(name))
  return layers.flatMap((layer, i) => (i >= own ? layer.filter((other) => other !== name) : []))
}

/** @param inTests for tests and what only they use, which are not published */
function layerRule(name, inTests) {
  const above = forbiddenTo(name).map(moduleOf)
  // From a file in a folder of src/, another layer is reached by going up; from a file in src/ itself, by going down.
  const up = isFolder(name) ? '^(\\.\\./)+' : '^\\./'
  const patterns = inTests ? [] : [outside]
  if (above.length > 0) patterns.push({ regex: `${up}(${above.join('|')})`, message: `Imports only go down the layers: ${layers.map((layer) => layer.join(', ')).join(' < ')}.` })
  const mayLoad = name === 'native'
  const folder = isFolder(name) ? `src/${name}/**/` : 'src/'
  const files = isFolder(name) ? `${folder}*.ts` : `src/${name}`
  return {
    files: inTests ? [`${folder}*.test.ts`, `${folder}testing/**/*.ts`] : [files],
    rules: { 'no-restricted-imports': ['error', { paths: mayLoad ? [] : [loading], patterns: mayLoad ? patterns : [...patterns, binaries] }] },
  }
}

const nodeGlobals = Object.fromEntries(
  ['process', 'console', 'Buffer', 'URL', 'gc', 'setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'setImmediate', 'clearImmediate'].map((name) => [name, 'readonly']),
)

/** The page's script runs in a browser. */
const pageGlobals = Object.fromEntries(['document', 'EventSource', 'Node', 'setTimeout', 'clearTimeout'].map((name) => [name, 'readonly']))

const sizes = {
  'max-lines': ['error', { max: 500 }],
  'max-lines-per-function': ['error', { max: 70 }],
}

const style = {
  // Numbers read well in templates, and so do the unions that errors are made of.
  '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
  // An unused parameter that has to be there bears an underscore.
  '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
  // `await fn()` in a `try` and in a one-line wrapper keep the stack whole.
  '@typescript-eslint/return-await': ['error', 'error-handling-correctness-only'],
  // `noUncheckedIndexedAccess` adds undefined where an index is known to be good; a cast says so in place.
  '@typescript-eslint/non-nullable-type-assertion-style': 'off',
  // `return void call()` and its like end a branch in one line.
  '@typescript-eslint/no-confusing-void-expression': 'off',
  // An async function without `await` turns what it throws into a rejection, as its interface promises.
  '@typescript-eslint/require-await': 'off',
  // `load<T>()` says what is loaded; the type cannot be derived from an argument.
  '@typescript-eslint/no-unnecessary-type-parameters': 'off',
  '@typescript-eslint/no-meaningless-void-operator': 'off',
  // `typeof import()` names the type of an optional package without importing it.
  '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports', disallowTypeAnnotations: false }],
  '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
  // What another turn of the event loop changes, or another process, looks constant to this rule.
  '@typescript-eslint/no-unnecessary-condition': 'off',
  // `deferred<void>()` is a promise of nothing.
  '@typescript-eslint/no-invalid-void-type': 'off',
  eqeqeq: 'error',
}

export default tseslint.config(
  { ignores: ['dist/', 'build/', '.cache/', 'node_modules/', 'addon/**/*.{cc,h}'] },
  js.configs.recommended,
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: { allowDefaultProject: ['*.js', 'addon/*.mjs', 'vitest*.config.ts'] }, tsconfigRootDir: import.meta.dirname } },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: { ...sizes, ...style },
  },
  ...names.map((name) => layerRule(name, false)),
  ...names.filter(isFolder).map((name) => layerRule(name, true)),
  { files: ['**/*.js', '**/*.mjs'], ...tseslint.configs.disableTypeChecked, languageOptions: { globals: nodeGlobals, parserOptions: { projectService: false, program: null, project: false } } },
  { files: ['src/daemon/page/assets/*.js'], languageOptions: { globals: { ...Object.fromEntries(Object.keys(nodeGlobals).map((name) => [name, 'off'])), ...pageGlobals } } },
  {
    files: ['**/*.test.ts', '**/testing/**/*.ts', 'hwtests/**/*.ts', 'addon/test/**/*.ts', 'ci/**/*.ts'],
    rules: { '@typescript-eslint/no-non-null-assertion': 'off' },
  },
  {
    files: ['**/*.test.ts', '**/testing/**/*.ts', 'hwtests/**/*.ts', 'addon/test/**/*.ts'],
    rules: {
      // A describe block is a list of tests, not a function.
      'max-lines-per-function': 'off',
      // Objects of the addon are called as strangers would call them.
      '@typescript-eslint/unbound-method': 'off',
      // What is thrown here stands for what strangers throw.
      '@typescript-eslint/only-throw-error': 'off',
    },
  },
  {
    // A test of garbage collection drops its last reference.
    files: ['addon/test/**'],
    rules: { 'no-useless-assignment': 'off' },
  },
)
