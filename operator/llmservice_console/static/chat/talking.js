// The conversation that is open, and the answers that are on their way.
import { ApiError } from '../api.js';
import { services } from '../live.js';
import { store } from '../store.js';
import { request } from './request.js';
import { chunks, take } from './stream.js';
import { load, remove, save } from './talks.js';

const REDRAW_MS = 50;
export const open = store(null);
// Answers that are on their way: of which conversation, and what ends them.
const running = new Map();
let timer = 0;

// Draw the open conversation again; many pieces that come together are drawn once.
export function changed() {
  timer ||= setTimeout(() => {
    timer = 0;
    if (open.value) open.set({ ...open.value });
  }, REDRAW_MS);
}

export function busy(talk) {
  return talk.turns.some((turn) => turn.answers.some((answer) => answer?.state === 'running'));
}

export function stop(talk) {
  for (const one of running.values()) if (one.talk.id === talk.id) one.ends.abort();
}

// A conversation by its id, as it is now: one that is answered has more than what is kept. null = there is none.
export async function known(id) {
  const answered = [...running.values()].find(({ talk }) => talk.id === id);
  return answered ? answered.talk : load(id);
}

export async function forget(id) {
  stop({ id });
  await remove(id);
}

// Ask every model of the conversation.
export function tell(talk, text, pictures) {
  const turn = { text, pictures, answers: [] };
  talk.turns.push(turn);
  again(talk, turn);
}

// Ask for an answer anew: of one slot, or of all. What was said after it was about another answer, and goes.
export function again(talk, turn, slot = null) {
  talk.turns.splice(talk.turns.indexOf(turn) + 1);
  const slots = slot === null ? [...talk.models.keys()] : [slot];
  for (const one of slots) {
    const model = talk.models[one] ?? turn.answers[one].model; // of a slot that was closed since
    turn.answers[one] = { model, steps: [], state: 'running', error: null };
  }
  if (slot === null) turn.answers.length = talk.models.length;
  save(talk);
  for (const one of slots) answer(talk, turn, one);
}

export function edit(talk, turn, text) {
  turn.text = text;
  again(talk, turn);
}

// Go on after the results of tools are there.
export function goOn(talk, turn, slot) {
  answer(talk, turn, slot);
}

async function answer(talk, turn, slot) {
  const said = turn.answers[slot];
  const ends = new AbortController();
  const step = { reasoning: '', content: '', calls: [], finish: '' };
  let body,
    first = 0,
    last = 0;
  try {
    body = request(talk, turn, slot);
    Object.assign(said, { state: 'running', error: null, began: Date.now(), cold: cold(said.model) });
    said.steps.push(step);
    running.set(said, { talk, ends });
    changed();
    const began = performance.now();
    for await (const chunk of chunks('/v1/chat/completions', body, ends.signal)) {
      if (chunk.usage) said.usage = { prompt: chunk.usage.prompt_tokens, answer: chunk.usage.completion_tokens };
      if (!take(step, chunk)) continue;
      last = performance.now();
      first ||= last;
      said.first = (first - began) / 1000;
      said.took = (last - first) / 1000;
      changed();
    }
    said.state = 'done';
  } catch (error) {
    said.state = error.name === 'AbortError' ? 'stopped' : 'failed';
    if (said.state === 'failed') said.error = { message: error.message, code: error.code ?? '' };
    if (!(error instanceof ApiError) && said.state === 'failed') console.error(error);
  } finally {
    running.delete(said);
    changed();
    save(talk);
  }
}

function cold(model) {
  const name = model.split(':')[0];
  const found = services.state.value.value?.services.find((one) => one.name === name);
  return Boolean(found && !found.ready);
}
