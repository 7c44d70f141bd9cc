// Conversations. They stay in this browser, the last ones first; the oldest go when there are too many.
import { store } from '../store.js';

export const MOST = 200;
export const MOST_BYTES = 64 * 1024 * 1024;
const PLACE = 'talks';

// What is kept, without turns: [{id, title, at}].
export const list = store([]);

export function fresh(models, options = {}) {
  const blank = {
    system: '',
    temperature: '',
    topP: '',
    topK: '',
    maxTokens: '',
    seed: '',
    tools: '',
    format: 'text',
    schema: '',
  };
  return {
    id: crypto.randomUUID?.() ?? String(Math.random()).slice(2),
    title: '',
    at: Date.now(),
    models,
    options: { ...blank, ...options },
    turns: [],
  };
}

let opened;
function base() {
  opened ??= new Promise((resolve, reject) => {
    const asked = indexedDB.open('llmservice', 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore(PLACE, { keyPath: 'id' });
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
  return opened;
}

// A browser that keeps nothing (a private window) still talks: what it is told lives as long as the page.
const unkept = new Map();

async function within(mode, does) {
  try {
    const place = (await base()).transaction(PLACE, mode).objectStore(PLACE);
    return await done(does(place));
  } catch {
    return null;
  }
}

function done(asked) {
  return new Promise((resolve, reject) => {
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

async function all() {
  const kept = (await within('readonly', (place) => place.getAll())) ?? [...unkept.values()];
  return kept.sort((a, b) => b.at - a.at);
}

export async function refresh() {
  list.set((await all()).map(({ id, title, at }) => ({ id, title, at })));
}

export async function load(id) {
  const talk = (await within('readonly', (place) => place.get(id))) ?? unkept.get(id) ?? null;
  for (const turn of talk?.turns ?? []) {
    for (const answer of turn.answers) if (answer?.state === 'running') answer.state = 'stopped'; // the page went
  }
  return talk;
}

// Ids of those that were removed: an answer that was on its way brings none of them back.
const removed = new Set();

export async function save(talk) {
  if (removed.has(talk.id)) return;
  talk.at = Date.now();
  talk.title ||= talk.turns[0]?.text.trim().slice(0, 80) ?? '';
  unkept.set(talk.id, talk);
  await within('readwrite', (place) => place.put(structuredClone(talk)));
  await prune(talk.id);
  await refresh();
}

export async function remove(id) {
  removed.add(id);
  unkept.delete(id);
  await within('readwrite', (place) => place.delete(id));
  await refresh();
}

// Ids of those beyond the bounds, the oldest; `keep` stays. Pure.
export function beyond(talks, keep, most = MOST, bytes = MOST_BYTES) {
  let size = 0;
  return talks
    .filter((talk, index) => {
      size += JSON.stringify(talk).length;
      return talk.id !== keep && (index >= most || size > bytes);
    })
    .map((talk) => talk.id);
}

async function prune(keep) {
  for (const id of beyond(await all(), keep)) {
    unkept.delete(id);
    await within('readwrite', (place) => place.delete(id));
  }
}
