// KafkaJS with its defaults. `client.js produce BOOTSTRAP TOPIC` sends the lines of stdin as they come;
// `client.js consume BOOTSTRAP TOPIC GROUP COUNT` prints as many values, commits and leaves.
'use strict'
const { createInterface } = require('readline')
const { Kafka, logLevel } = require('kafkajs')

const [verb, bootstrap, topic, group, count] = process.argv.slice(2)
const kafka = new Kafka({ brokers: bootstrap.split(','), logLevel: logLevel.WARN })

async function produce () {
  const producer = kafka.producer()
  await producer.connect()
  // What came while the last was under way goes together.
  let waiting = []
  let ended = false
  let more = () => {}
  createInterface({ input: process.stdin })
    .on('line', value => { waiting.push({ value }); more() })
    .on('close', () => { ended = true; more() })
  while (!ended || waiting.length > 0) {
    const messages = waiting
    waiting = []
    if (messages.length > 0) await producer.send({ topic, messages })
    else await new Promise(resolve => { more = resolve })
  }
  await producer.disconnect()
}

async function consume () {
  const consumer = kafka.consumer({ groupId: group })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  let seen = 0
  await new Promise((resolve, reject) => {
    // It begins again by itself after what may pass.
    consumer.on(consumer.events.CRASH, ({ payload }) => { if (!payload.restart) reject(payload.error) })
    consumer.run({
      eachMessage: async ({ message }) => {
        process.stdout.write(message.value.toString() + '\n')
        seen += 1
        if (seen === Number(count)) resolve()
      }
    }).catch(reject)
  })
  // Disconnecting commits what was resolved and leaves the group.
  await consumer.disconnect()
}

const verbs = { produce, consume }
verbs[verb]().catch(error => {
  console.error(error)
  process.exit(1)
})
