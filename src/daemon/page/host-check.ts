/** Which names this page may be asked for by. Pure. */
import { isIP } from 'node:net'

const loopbackNames = new Set(['localhost', '127.0.0.1', '::1'])
const wildcards = new Set(['0.0.0.0', '::'])

/**
 * Guards against DNS rebinding: a stranger's name that is made to lead here must not make a browser read this page for the stranger.
 * Such a name is a name: where all addresses are listened on, any address that is written out is one that the operator typed.
 *
 * @param header the Host header
 * @param configured the host that the page is configured to be served on
 */
export function isOwnHost(header: string | undefined, configured: string): boolean {
  const match = /^(?:\[([^\]]*)\]|([^:]*))(?::\d{1,5})?$/.exec(header ?? '')
  const name = (match?.[1] ?? match?.[2] ?? '').toLowerCase().replace(/\.$/, '')
  if (name === '') return false
  return loopbackNames.has(name) || name === configured.toLowerCase() || (wildcards.has(configured) && isIP(name) !== 0)
}
