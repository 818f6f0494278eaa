/**
 * A client, a server and a listener on the wire that are not of this project: Python, for the namespaces of a test. Each takes one JSON
 * command a line, and answers it by one JSON line.
 */

/** What both ends share. */
const common = `
import array, fcntl, json, os, resource, select, socket, struct, sys, threading, time
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
def commands(handle):
    print(json.dumps('ready'), flush=True)
    for line in sys.stdin:
        try: answer = {'answer': handle(json.loads(line))}
        except OSError as error: answer = {'error': error.strerror or str(error)}
        print(json.dumps(answer), flush=True)
def family(address): return socket.AF_INET6 if ':' in address else socket.AF_INET
`

/**
 * The machine that is going to die. It takes the state of its sockets out by TCP_REPAIR, as another kernel would find it in its memory:
 * an independent account of what src/recovery/kernel reads there.
 */
export const serverProgram = `${common}
REPAIR, QUEUE, SEQ, TIMESTAMP, WINDOW = 19, 20, 21, 24, 29
RECV, SEND = 1, 2
SIOCINQ, SIOCOUTQ, SIOCOUTQNSD = 0x541B, 0x5411, 0x894B
sockets, received, written, echoing = [], [], [], threading.Event()
def accept(listener):
    while True:
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets.append(accepted); received.append(0); written.append(0)
def echo():
    while echoing.is_set():
        ready, _, _ = select.select(sockets, [], [], 0.01)
        for each in ready:
            index = sockets.index(each)
            data = each.recv(65536)
            received[index] += len(data)
            each.sendall(data)
            written[index] += len(data)
def count(each, request):
    value = array.array('i', [0])
    fcntl.ioctl(each.fileno(), request, value)
    return value[0]
def sequence(each, queue):
    each.setsockopt(socket.IPPROTO_TCP, QUEUE, queue)
    return each.getsockopt(socket.IPPROTO_TCP, SEQ) & 0xffffffff
def peek(each, queue, length):
    each.setsockopt(socket.IPPROTO_TCP, QUEUE, queue)
    return each.recv(length, socket.MSG_PEEK).hex() if length else ''
def endpoint(name): return {'address': socket.inet_pton(family(name[0]), name[0]).hex(), 'port': name[1]}
def state(index):
    each = sockets[index]
    each.setsockopt(socket.IPPROTO_TCP, REPAIR, 1)
    info = each.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    options, scales = info[5], info[6]
    unread, unacknowledged, unsent = count(each, SIOCINQ), count(each, SIOCOUTQ), count(each, SIOCOUTQNSD)
    recv, send = sequence(each, RECV), sequence(each, SEND)
    wl1, wnd, most, rcv, wup = struct.unpack('5I', each.getsockopt(socket.IPPROTO_TCP, WINDOW, 20))
    una = (send - unacknowledged) % 2**32
    return {
        'local': endpoint(each.getsockname()), 'remote': endpoint(each.getpeername()),
        'rcvNxt': recv, 'sndUna': una, 'sndNxt': (una + unacknowledged - unsent) % 2**32,
        'unread': peek(each, RECV, unread), 'unacknowledged': peek(each, SEND, unacknowledged),
        'read': received[index], 'written': written[index],
        'options': {
            'mssClamp': struct.unpack_from('I', info, 16)[0] + (12 if options & 1 else 0), 'sack': bool(options & 2),
            'windowScale': {'send': scales & 15, 'receive': scales >> 4} if options & 4 else None,
            'timestamp': each.getsockopt(socket.IPPROTO_TCP, TIMESTAMP) & 0xffffffff if options & 1 else None,
        },
        'window': {'sndWl1': wl1, 'sndWnd': wnd, 'maxWindow': most, 'rcvWnd': rcv, 'rcvWup': wup},
    }
def handle(command):
    do, index = command['do'], command.get('index')
    if do == 'listen':
        listener = socket.socket(family(command['address']))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((command['address'], command['port'])); listener.listen(1024)
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
    elif do == 'accepted': return len(sockets)
    elif do == 'echo':
        echoing.set()
        echoing.thread = threading.Thread(target=echo, daemon=True); echoing.thread.start()
    elif do == 'unread': return count(sockets[index], SIOCINQ)
    elif do == 'unsent': return count(sockets[index], SIOCOUTQNSD)
    elif do == 'unacknowledged': return count(sockets[index], SIOCOUTQ)
    elif do == 'read':
        data = sockets[index].recv(command['length'], socket.MSG_WAITALL); received[index] += len(data)
        return data.hex()
    elif do == 'write':
        sockets[index].setblocking(False)
        sent = sockets[index].send(bytes.fromhex(command['bytes'])); written[index] += sent
        return sent
    elif do == 'die':
        if echoing.is_set(): echoing.clear(); echoing.thread.join()
        return [state(each) for each in range(len(sockets))]
commands(handle)
`

/** Clients. While they run, each sends 32 bytes when it has its last 32 back; byte n of connection c is (7 n + c) modulo 256. */
export const clientProgram = `${common}
sockets, running, turns, errors, longest = [], threading.Event(), [], [], []
def some(index, at): return bytes((7 * n + index) & 255 for n in range(at, at + 32))
def run(index):
    each = sockets[index]
    while running.is_set():
        wanted = some(index, 32 * turns[index])
        begun = time.monotonic()
        try:
            each.sendall(wanted)
            got = each.recv(32, socket.MSG_WAITALL)
        except OSError as error: errors[index] = error.strerror or str(error); return
        if got != wanted: errors[index] = 'wrong bytes'; return
        longest[index] = max(longest[index], time.monotonic() - begun)
        turns[index] += 1
threads = []
def handle(command):
    do, index = command['do'], command.get('index')
    if do == 'connect':
        for _ in range(command['count']):
            each = socket.socket(family(command['address']))
            if 'buffer' in command: each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, command['buffer'])
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            each.settimeout(60)
            each.connect((command['address'], command['port']))
            sockets.append(each); turns.append(0); errors.append(None); longest.append(0)
    elif do == 'send': sockets[index].sendall(bytes.fromhex(command['bytes']))
    elif do == 'receive':
        data = b''
        while len(data) < command['length']:
            more = sockets[index].recv(command['length'] - len(data))
            if not more: raise OSError(0, 'end')
            data += more
        return data.hex()
    elif do == 'vanish':
        sockets[index].setsockopt(socket.IPPROTO_TCP, 19, 1); sockets[index].close()
    elif do == 'backoff': return sockets[index].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)[4]
    elif do == 'unacknowledged':
        value = array.array('i', [0]); fcntl.ioctl(sockets[index].fileno(), 0x5411, value); return value[0]
    elif do == 'run':
        running.set()
        for each in range(len(sockets)):
            threads.append(threading.Thread(target=run, args=(each,), daemon=True)); threads[-1].start()
    elif do == 'turns': return turns
    elif do == 'each':
        for each in range(len(sockets)): sockets[each].sendall(some(each, 0))
        return sum(sockets[each].recv(32, socket.MSG_WAITALL) == some(each, 0) for each in range(len(sockets)))
    elif do == 'stop':
        running.clear()
        for each in threads: each.join()
        return {'turns': turns, 'errors': errors, 'longest': longest}
commands(handle)
`

/** Every segment with RST, and every ICMP message, that comes in on any interface, one JSON line each. */
export const listenerProgram = `
import json, socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
print(json.dumps('ready'), flush=True)
while True:
    packet, source = s.recvfrom(65536)
    if len(packet) < 40 or source[2] == socket.PACKET_OUTGOING: continue
    version = packet[0] >> 4
    protocol, at = (packet[9], (packet[0] & 15) * 4) if version == 4 else (packet[6], 40)
    if protocol == 6 and packet[at + 13] & 4: print(json.dumps({'reset': packet[at:].hex()}), flush=True)
    if (protocol == 1 and packet[at] == 3) or (protocol == 58 and packet[at] == 1): print(json.dumps({'unreachable': packet.hex()}), flush=True)
`
