// An answer that comes in pieces: server-sent events as every engine sends them.
import { ApiError, ask } from '../api.js';

// Chunks as they come. Raises ApiError, also for an answer that broke off, and AbortError when `signal` ends it.
export async function* chunks(path, body, signal) {
  const response = await ask(path, { method: 'POST', body, signal });
  let whole = false;
  for await (const data of events(response.body)) {
    if (data === '[DONE]') whole = true; // and on to the end: who leaves before it counts as gone
    if (whole) continue;
    const chunk = JSON.parse(data);
    if (chunk.error)
      throw new ApiError(chunk.error.message, { code: chunk.error.code, status: Number(chunk.error.code) || 0 });
    yield chunk;
  }
  if (!whole) throw new ApiError('', { code: 'broken' });
}

// The data of each event; comments, which only say that it goes on, are none.
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((error) => {
        throw error.name === 'AbortError' ? error : new ApiError('', { code: 'broken' });
      });
      if (done) return;
      const lines = (rest + value).split(/\r\n|\n|\r/);
      rest = lines.pop();
      for (const line of lines) if (line.startsWith('data:')) yield line.slice(5).trim();
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Add a chunk to a step of an answer; whether it had any of the answer itself.
export function take(step, chunk) {
  const choice = chunk.choices?.[0];
  if (!choice) return false;
  if (choice.finish_reason) step.finish = choice.finish_reason;
  const { content, reasoning, reasoning_content: thought, tool_calls: calls } = choice.delta ?? {};
  step.content += content ?? '';
  step.reasoning += reasoning ?? thought ?? '';
  for (const { index = 0, id, function: called = {} } of calls ?? []) {
    const call = (step.calls[index] ??= { id: '', name: '', arguments: '', result: null });
    call.id ||= id ?? '';
    call.name ||= called.name ?? '';
    call.arguments += called.arguments ?? '';
  }
  return Boolean(content || reasoning || thought || calls?.length);
}
