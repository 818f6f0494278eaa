/**
 * A server process of a test, to be killed: `adapter-process.ts express|socket.io|mqtt REGION`. Says `port N` when it
 * serves, and `adopted STORE` when sessions have come over.
 */
import { createServer, type Server as HttpServer } from 'node:http'
import { createServer as createTcpServer, type AddressInfo, type Server as TcpServer } from 'node:net'
import { attach, type AttachedNode } from '../../attach.js'

/** Longer than any test takes. */
const waitMs = 600_000

// Each loads only what it needs: a process should be there soon.
const servers: Record<string, (node: AttachedNode) => Promise<HttpServer | TcpServer>> = {
  express: async (node) => {
    const [{ default: express }, { default: session }, { BackdoorsStore }] = [await import('express'), await import('express-session'), await import('../express-session.js')]
    const app = express()
    app.use(session({ store: new BackdoorsStore(node.sessions('web'), { waitMs }), secret: 'of the test', resave: false, saveUninitialized: false }))
    app.get('/add/:item', (request, response) => {
      const cart = request.session as { basket?: string[] }
      cart.basket = [...(cart.basket ?? []), request.params.item]
      response.send(cart.basket.join())
    })
    return createServer(app)
  },
  'socket.io': async (node) => {
    const [{ Server }, { recoveryAdapter }] = [await import('socket.io'), await import('../socket.io.js')]
    const http = createServer()
    const io = new Server(http, { connectionStateRecovery: {}, adapter: recoveryAdapter(node, { waitMs }), serveClient: false })
    io.on('connection', (socket) => {
      if (!socket.recovered) void socket.join('lobby')
      socket.on('shout', (text: string, done: () => void) => {
        io.to('lobby').emit('news', text)
        done()
      })
    })
    return http
  },
  mqtt: async (node) => {
    const [{ Aedes }, { BackdoorsPersistence }] = [await import('aedes'), await import('../aedes.js')]
    const broker = await Aedes.createBroker({ persistence: new BackdoorsPersistence(node) })
    return createTcpServer((socket) => void broker.handle(socket))
  },
}

const [kind = '', region = ''] = process.argv.slice(2)
const node = await attach({ region, name: 'server' })
node.sensor('event-loop', { deadlineMs: 60_000 })
const serve = servers[kind]
if (serve === undefined) throw new Error(`There is no server ${kind}.`)
const server = await serve(node)
for (const store of ['mqtt.subscriptions', 'mqtt.outgoing']) node.sessions(store).on('adopted', () => void process.stdout.write(`adopted ${store}\n`))
server.listen(0, '127.0.0.1', () => void process.stdout.write(`port ${(server.address() as AddressInfo).port}\n`))
