// Asks a hub through npm's `openai` and prints one JSON object: what each case saw. The arguments are the hubs' URLs.
import OpenAI from 'openai'

const [host, endless, real, model, png] = process.argv.slice(2)
const client = new OpenAI({ baseURL: `${host}/v1`, apiKey: 'none', maxRetries: 0 })
const hello = [{ role: 'user', content: 'Hello' }]
const chat = (fields) => client.chat.completions.create({ model, messages: hello, ...fields })
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

async function toolTurns(streamed) {
  const messages = [{ role: 'user', content: 'add_up(1, 2) and add_up(30, 40)' }]
  const helper = streamed ? client.chat.completions.stream({ model, messages, tools: [add] }) : null
  const answer = helper ? await helper.finalChatCompletion() : await chat({ messages, tools: [add] })
  const { message, finish_reason } = answer.choices[0]
  messages.push(message)
  for (const call of message.tool_calls) {
    const { a, b } = JSON.parse(call.function.arguments)
    messages.push({ role: 'tool', tool_call_id: call.id, content: String(a + b) })
  }
  const told = (await chat({ messages, tools: [add] })).choices[0].message.content
  const calls = message.tool_calls.map((call) => call.function)
  return { calls, ids: new Set(message.tool_calls.map((call) => call.id)).size, told, reason: finish_reason }
}

const cases = {
  async whole() {
    const { data, response, request_id } = await chat({ temperature: 0.5 }).withResponse()
    const { message, finish_reason } = data.choices[0]
    const named = request_id === response.headers.get('x-request-id') && Boolean(request_id)
    return { text: message.content, refusal: message.refusal ?? null, finish_reason, usage: data.usage, named }
  },
  async streamed() {
    const parts = await collected(await chat({ stream: true, stream_options: { include_usage: true } }))
    const choices = parts.flatMap((part) => part.choices)
    const text = choices.map((choice) => choice.delta.content ?? '').join('')
    const roles = choices.filter((choice) => choice.delta.role).length
    const ids = new Set(parts.map((part) => part.id)).size
    return { text, roles, ids, finish_reason: choices.at(-1).finish_reason, usage: parts.at(-1).usage }
  },
  async helper() {
    const stream = client.chat.completions.stream({ model, messages: hello, stream_options: { include_usage: true } })
    const final = await stream.finalChatCompletion()
    return { role: final.choices[0].message.role, text: final.choices[0].message.content, usage: final.usage }
  },
  completion: async () => (await client.completions.create({ model, prompt: 'Hello' })).choices[0].text,
  cut: async () => {
    const { message, finish_reason } = (await chat({ max_completion_tokens: 3 })).choices[0]
    return [message.content, finish_reason]
  },
  stop: async () => (await chat({ stop: ['☕'] })).choices[0].message.content,
  format: async () => {
    const schema = { type: 'object', properties: { sum: { type: 'integer' } }, required: ['sum'] }
    const response_format = { type: 'json_schema', json_schema: { name: 'answer', strict: true, schema } }
    const answer = await client.chat.completions.parse({ model, messages: [{ role: 'user', content: 'of 7' }], response_format })
    return answer.choices[0].message.parsed
  },
  tools: () => toolTurns(false),
  tools_streamed: () => toolTurns(true),
  async named_tool() {
    const tool_choice = { type: 'function', function: { name: 'add_up' } }
    const messages = [{ role: 'user', content: 'What is 3 + 4?' }]
    const { message } = (await chat({ messages, tools: [add], tool_choice })).choices[0]
    return message.tool_calls.map((call) => call.function)
  },
  async picture() {
    const url = `data:image/png;base64,${png}`
    const content = [{ type: 'text', text: 'Look' }, { type: 'image_url', image_url: { url } }]
    return typeof (await chat({ messages: [{ role: 'user', content }] })).choices[0].message.content
  },
  async embed() {
    const input = ['hello', 'bye']
    const plain = await client.embeddings.create({ model: 'standin-embed', input })
    const floats = await client.embeddings.create({ model: 'standin-embed', input, encoding_format: 'float' })
    const near = plain.data.every((row, n) => row.embedding.every((x, k) => Math.abs(x - floats.data[n].embedding[k]) < 1e-6))
    return { lengths: plain.data.map((row) => row.embedding.length), order: plain.data.map((row) => row.index), near }
  },
  list: async () => (await collected(client.models.list())).map((one) => one.id.replace(/:latest$/, '')).sort(),
  retrieve: async () => (await client.models.retrieve(model)).id,
  missing: () => refusal(() => chat({ model: 'nope' })),
  missing_streamed: () => refusal(async () => collected(await chat({ model: 'nope', stream: true }))),
  no_messages: () => refusal(() => chat({ messages: [] })),
  async real() {
    if (!real) return null
    const tiny = new OpenAI({ baseURL: `${real}/v1`, apiKey: 'none' })
    const chat = tiny.chat.completions
    const parts = (await collected(await chat.create({ model: 'tiny', messages: hello, stream: true }))).map((part) => part.choices[0])
    const called = await chat.create({ model: 'tiny-tools', messages: hello, tools: [clock] })
    const rows = (await tiny.embeddings.create({ model: 'tiny-embed', input: ['hello', 'bye'] })).data
    return {
      text: parts.map((choice) => choice.delta.content ?? '').join(''),
      reason: parts.at(-1).finish_reason,
      calls: called.choices[0].message.tool_calls.map((call) => JSON.parse(call.function.arguments)),
      lengths: rows.map((row) => row.embedding.length),
    }
  },
  async abort() {
    const other = new OpenAI({ baseURL: `${endless}/v1`, apiKey: 'none' })
    const stream = await other.chat.completions.create({ model, messages: hello, stream: true })
    let seen = 0
    for await (const part of stream) if (part.choices[0]?.delta.content && ++seen === 3) stream.controller.abort()
    return [seen, 'ended']
  },
}

async function refusal(ask) {
  try {
    await ask()
  } catch (error) {
    return { name: error.constructor.name, status: error.status, message: error.message, type: error.type }
  }
  return 'no error'
}

const saw = {}
for (const [name, ask] of Object.entries(cases)) {
  saw[name] = await ask().catch((error) => ({ failed: `${error.name}: ${error.message}` }))
}
console.log(JSON.stringify(saw))
