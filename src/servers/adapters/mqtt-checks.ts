/** What a record must be to be taken up: aedes would end a connection, or itself, on others. */
import { keyOf, type PacketLike, type Subscription } from './mqtt-records.js'

/** aedes takes no topics of more levels, and what it looks topics up by throws on them. */
const maxTopicLevels = 100
/** Of any text in MQTT, in UTF-8. */
const maxTextBytes = 65_535

/** @throws TypeError where it is not the record of this retained message */
export function checkRetained(packet: PacketLike, id: string): void {
  checkPacket(packet)
  if (packet.topic === undefined || id !== keyOf(packet.topic)) throw new TypeError('it is not of the topic that it is kept for')
}

/** @throws TypeError where it is not the record of this client's will */
export function checkWill(packet: PacketLike, id: string): void {
  checkPacket(packet)
  checkClient(packet.clientId, id)
  if (packet.topic === undefined) throw new TypeError('it has no topic')
}

/** @throws TypeError where they are not the record of this client's subscriptions */
export function checkSubscribed({ clientId, subscriptions }: { readonly clientId: string; readonly subscriptions: readonly Subscription[] }, id: string): void {
  checkClient(clientId, id)
  if (!Array.isArray(subscriptions)) throw new TypeError('its subscriptions are no list')
  for (const { topic, qos, rh, rap, nl, subscriptionIdentifier } of subscriptions as readonly Subscription[]) {
    checkTopic(topic)
    if (topic.slice(0, -1).includes('#')) throw new TypeError('a subscription has # before its end')
    check('qos', isQos(qos))
    check('rh', isNumberOrNone(rh))
    check('rap', isBooleanOrNone(rap))
    check('nl', isBooleanOrNone(nl))
    check('subscriptionIdentifier', isNumberOrNone(subscriptionIdentifier))
  }
}

/** @throws TypeError where aedes could not send it */
export function checkPacket(packet: PacketLike): void {
  const { cmd, topic, payload, qos, retain, dup, messageId, brokerId, brokerCounter } = packet
  check('cmd', cmd === undefined || cmd === 'publish' || cmd === 'pubrel')
  if (cmd === 'pubrel') {
    check('messageId', isMessageId(messageId))
    return
  }
  checkTopic(topic)
  check('payload', typeof payload === 'string' || payload instanceof Uint8Array)
  check('qos', qos === undefined || isQos(qos))
  check('retain', isBooleanOrNone(retain))
  check('dup', isBooleanOrNone(dup))
  check('messageId', isNone(messageId) || isMessageId(messageId))
  check('brokerId', isNone(brokerId) || typeof brokerId === 'string')
  check('brokerCounter', isNumberOrNone(brokerCounter))
}

function checkClient(clientId: unknown, key: string): void {
  if (typeof clientId !== 'string' || keyOf(clientId) !== key) throw new TypeError('it is not of the client that it is kept for')
}

function checkTopic(topic: unknown): void {
  check('topic', typeof topic === 'string' && topic.length > 0 && Buffer.byteLength(topic) <= maxTextBytes && topic.split('/').length <= maxTopicLevels)
}

function check(field: string, holds: boolean): void {
  if (!holds) throw new TypeError(`its ${field} is none`)
}

const isNone = (value: unknown): boolean => value === undefined || value === null
const isNumberOrNone = (value: unknown): boolean => isNone(value) || Number.isSafeInteger(value)
const isBooleanOrNone = (value: unknown): boolean => isNone(value) || typeof value === 'boolean'
const isQos = (value: unknown): boolean => value === 0 || value === 1 || value === 2
const isMessageId = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 1 && (value as number) <= 65_535
