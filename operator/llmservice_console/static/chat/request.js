// What is asked of a model for a turn of a conversation. Pure: a conversation in, the body of a request out.

// Options that are numbers: their names here and in the request.
export const NUMBERS = {
  temperature: { field: 'temperature', min: 0, max: 2, step: 0.1 },
  topP: { field: 'top_p', min: 0, max: 1, step: 0.05 },
  topK: { field: 'top_k', min: 1, max: 1000, step: 1 },
  maxTokens: { field: 'max_tokens', min: 1, max: 1000000, step: 1 },
  seed: { field: 'seed', min: 0, max: 2147483647, step: 1 },
};

// The body for the answer in `slot` to `turn`: all before it as this model (or, where it was not asked, the first one)
// answered, then the turn, and the tools' results where it has called some.
export function request(talk, turn, slot) {
  const { options } = talk;
  const body = {
    model: turn.answers[slot].model,
    messages: [],
    stream: true,
    stream_options: { include_usage: true },
  };
  if (options.system) body.messages.push({ role: 'system', content: options.system });
  for (const one of talk.turns) {
    const steps = finished(one.answers[slot] ?? one.answers[0]);
    if (one === turn || steps.length) body.messages.push(question(one), ...steps.flatMap(told));
    if (one === turn) break;
  }
  for (const [name, { field }] of Object.entries(NUMBERS)) {
    if (options[name] !== '' && options[name] != null) body[field] = Number(options[name]);
  }
  if (options.tools?.trim()) body.tools = JSON.parse(options.tools);
  if (options.format === 'json') body.response_format = { type: 'json_object' };
  if (options.format === 'schema') {
    body.response_format = {
      type: 'json_schema',
      json_schema: { name: 'answer', strict: true, schema: JSON.parse(options.schema) },
    };
  }
  return body;
}

function finished(answer) {
  return (answer?.steps ?? []).filter((step) => step.content || step.calls.length);
}

function question({ text, pictures }) {
  if (!pictures?.length) return { role: 'user', content: text };
  const seen = pictures.map((url) => ({ type: 'image_url', image_url: { url } }));
  return { role: 'user', content: [...seen, ...(text ? [{ type: 'text', text }] : [])] };
}

function told(step) {
  if (!step.calls.length) return [{ role: 'assistant', content: step.content }];
  const calls = step.calls.map((call) => ({
    id: call.id,
    type: 'function',
    function: { name: call.name, arguments: call.arguments },
  }));
  const results = step.calls.map((call) => ({ role: 'tool', tool_call_id: call.id, content: call.result ?? '' }));
  return [{ role: 'assistant', content: step.content || null, tool_calls: calls }, ...results];
}

// What is wrong with the options, by the option's name; {} = nothing.
export function mistakes(options) {
  const found = {};
  if (options.tools?.trim()) {
    const tools = parsed(options.tools);
    if (!Array.isArray(tools) || !tools.every((tool) => tool?.function?.name)) found.tools = 'options.tools.wrong';
  }
  if (options.format === 'schema') {
    const schema = parsed(options.schema);
    if (!schema || typeof schema !== 'object' || Array.isArray(schema)) found.schema = 'options.schema.wrong';
  }
  for (const [name, { min, max }] of Object.entries(NUMBERS)) {
    const value = options[name];
    if (value !== '' && value != null && !(Number(value) >= min && Number(value) <= max))
      found[name] = 'options.number.wrong';
  }
  return found;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
