declare module 'aedes-persistence/abstract.js' {
  export default function abstract(options: { test: typeof import('node:test').test; testAsync: true; persistence: () => Promise<unknown> }): void
}
