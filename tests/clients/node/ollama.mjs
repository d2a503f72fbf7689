// Asks a hub through npm's `ollama` and prints one JSON object: what each case saw. The arguments are the hubs' URLs.
import { Ollama } from 'ollama'

const [host, endless, real, model, png] = process.argv.slice(2)
const client = new Ollama({ host })
const hello = [{ role: 'user', content: 'Hello' }]
const add = {
  type: 'function',
  function: {
    name: 'add_up',
    description: 'Sum of two numbers.',
    parameters: {
      type: 'object',
      properties: { a: { type: 'integer' }, b: { type: 'integer' } },
      required: ['a', 'b'],
    },
  },
}
const clock = {
  type: 'function',
  function: { name: 'get_time', parameters: { type: 'object', properties: { city: { type: 'string' } } } },
}

async function collected(stream) {
  const parts = []
  for await (const part of stream) parts.push(part)
  return parts
}

async function toolTurns(stream) {
  const messages = [{ role: 'user', content: 'add_up(1, 2) and add_up(30, 40)' }]
  const parts = stream
    ? await collected(await client.chat({ model, messages, tools: [add], stream }))
    : [await client.chat({ model, messages, tools: [add] })]
  const calls = parts.flatMap((part) => part.message.tool_calls ?? [])
  messages.push({ role: 'assistant', content: '', tool_calls: calls })
  for (const call of calls) {
    const { a, b } = call.function.arguments
    messages.push({ role: 'tool', content: String(a + b), tool_name: call.function.name })
  }
  const told = await client.chat({ model, messages, tools: [add] })
  return { calls: calls.map(({ function: { name, arguments: given } }) => ({ name, arguments: given })), told: told.message.content, reason: parts.at(-1).done_reason }
}

const cases = {
  async whole() {
    const answer = await client.chat({ model, messages: hello, options: { temperature: 0.5 } })
    const { message, done_reason, prompt_eval_count, eval_count } = answer
    return { text: message.content, done_reason, prompt_eval_count, eval_count, timed: answer.total_duration > 0 }
  },
  async streamed() {
    const parts = await collected(await client.chat({ model, messages: hello, stream: true }))
    const { done_reason, prompt_eval_count, eval_count, total_duration } = parts.at(-1)
    const text = parts.map((part) => part.message.content).join('')
    const ends = parts.filter((part) => part.done).length
    return { text, many: parts.length > 10, ends, done_reason, prompt_eval_count, eval_count, timed: total_duration > 0 }
  },
  async thinking() {
    const parts = await collected(await client.chat({ model, messages: hello, think: 'low', stream: true }))
    return ['thinking', 'content'].map((key) => parts.map((part) => part.message[key] ?? '').join(''))
  },
  generate: async () => (await client.generate({ model, prompt: 'Hello', system: 'Brief.' })).response,
  generate_streamed: async () =>
    (await collected(await client.generate({ model, prompt: 'Hello', stream: true }))).map((p) => p.response).join(''),
  cut: async () => {
    const answer = await client.chat({ model, messages: hello, options: { num_predict: 3 } })
    return [answer.message.content, answer.done_reason]
  },
  format: async () => {
    const format = { type: 'object', properties: { sum: { type: 'integer' } }, required: ['sum'] }
    return JSON.parse((await client.chat({ model, messages: [{ role: 'user', content: 'of 7' }], format })).message.content)
  },
  tools: () => toolTurns(false),
  tools_streamed: () => toolTurns(true),
  picture: async () => {
    const image = Uint8Array.from(Buffer.from(png, 'base64'))
    const answer = await client.chat({ model, messages: [{ role: 'user', content: 'Look', images: [image] }] })
    return answer.message.content
  },
  async embed() {
    const { embeddings } = await client.embed({ model: 'standin-embed', input: ['hello', 'bye'] })
    const { embedding } = await client.embeddings({ model: 'standin-embed', prompt: 'hello' })
    return { lengths: embeddings.map((one) => one.length), differ: embeddings[0][0] !== embeddings[1][0], old: embedding.length }
  },
  list: async () => (await client.list()).models.map((one) => one.name.replace(/:latest$/, '')).sort(),
  show: async () => {
    const shown = await client.show({ model })
    return { info: typeof shown.model_info, able: shown.capabilities.includes('completion') }
  },
  version: async () => /^\d+\.\d+\.\d+/.test((await client.version()).version),
  missing: () => refusal(() => client.chat({ model: 'nope', messages: hello })),
  missing_streamed: () => refusal(async () => collected(await client.chat({ model: 'nope', messages: hello, stream: true }))),
  async real() {
    if (!real) return null
    const tiny = new Ollama({ host: real })
    const parts = await collected(await tiny.chat({ model: 'tiny', messages: hello, stream: true }))
    const called = await tiny.chat({ model: 'tiny-tools', messages: hello, tools: [clock] })
    const { embeddings } = await tiny.embed({ model: 'tiny-embed', input: ['hello', 'bye'] })
    return {
      text: parts.map((part) => part.message.content).join(''),
      reason: parts.at(-1).done_reason,
      calls: called.message.tool_calls.map((call) => call.function.arguments),
      lengths: embeddings.map((one) => one.length),
    }
  },
  async abort() {
    const stream = await new Ollama({ host: endless }).chat({ model, messages: hello, stream: true })
    let seen = 0
    try {
      for await (const part of stream) if (part.message.content && ++seen === 3) stream.abort()
    } catch (error) {
      return [seen, error.name]
    }
    return [seen, 'no error']
  },
}

async function refusal(ask) {
  try {
    await ask()
  } catch (error) {
    return { name: error.name, status: error.status_code, message: error.message }
  }
  return 'no error'
}

const saw = {}
for (const [name, ask] of Object.entries(cases)) {
  saw[name] = await ask().catch((error) => ({ failed: `${error.name}: ${error.message}` }))
}
console.log(JSON.stringify(saw))
