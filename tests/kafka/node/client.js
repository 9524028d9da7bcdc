// KafkaJS with its defaults. `client.js produce BOOTSTRAP TOPIC` sends the lines of stdin;
// `client.js consume BOOTSTRAP TOPIC GROUP COUNT` prints as many values, commits and leaves.
'use strict'
const { readFileSync } = require('fs')
const { Kafka, logLevel } = require('kafkajs')

const [verb, bootstrap, topic, group, count] = process.argv.slice(2)
const kafka = new Kafka({ brokers: bootstrap.split(','), logLevel: logLevel.WARN })

async function produce () {
  const producer = kafka.producer()
  const values = readFileSync(0, 'utf8').split('\n').filter(Boolean)
  await producer.connect()
  await producer.send({ topic, messages: values.map(value => ({ value })) })
  await producer.disconnect()
}

async function consume () {
  const consumer = kafka.consumer({ groupId: group })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  let seen = 0
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error))
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
