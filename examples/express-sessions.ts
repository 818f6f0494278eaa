import express from 'express'
import session from 'express-session'
import { once } from 'node:events'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { AttachedNode } from 'backdoors'
import { BackdoorsStore } from 'backdoors/express-session'
import { twoNodes } from './two-nodes.js'

async function serve(node: AttachedNode): Promise<Server> {
  const app = express()
  // A client that comes here sooner than its session is made to wait for it.
  const store = new BackdoorsStore(node.sessions('web'), { waitMs: 30_000 })
  app.use(session({ store, secret: 'in earnest, a real one', resave: false, saveUninitialized: false }))
  app.get('/add/:item', (request, response) => {
    const cart = request.session as { basket?: string[] }
    cart.basket = [...(cart.basket ?? []), request.params.item]
    response.send(cart.basket.join(', '))
  })
  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}

const nodes = await twoNodes()
const servers = [await serve(nodes.a), await serve(nodes.b)]
const [onA, onB] = servers.map((server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`)

const first = await fetch(`${onA}/add/book`)
const [cookie = ''] = first.headers.getSetCookie()
nodes.hang()
const next = await fetch(`${onB}/add/pen`, { headers: { cookie } })
console.log('The other node says:', await next.text())

for (const server of servers) server.close().closeAllConnections()
await nodes.close()
