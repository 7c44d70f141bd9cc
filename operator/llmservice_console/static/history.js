// What the gateway remembers of a service's last hour: fetched once, then only what is newer.
import { asked } from './api.js';
import { Poll } from './live.js';

export const HOUR = 3600;

// What Prometheus remembers of more than an hour, in longer steps.
export class Longer extends Poll {
  constructor(at, seconds) {
    super(async () => whole(await asked(`${at}/history?seconds=${seconds}`)), { every: 60000 });
  }
}

export class History extends Poll {
  constructor(at) {
    super((before) => newer(at, before), { every: 5000 });
  }
}

async function newer(at, before) {
  const last = before?.end;
  const more = await asked(`${at}/history?seconds=${HOUR}${last ? `&since=${last}` : ''}`);
  if (!last) return whole(more);
  if (more.gateway !== before.gateway) return whole(await asked(`${at}/history?seconds=${HOUR}`));
  return more.columns.at.length ? joined(before, more) : before;
}

function whole(history) {
  return { ...history, end: history.columns.at.at(-1) ?? 0 };
}

// Both, without what is older than HOUR.
export function joined(before, more) {
  const { end } = whole(more);
  const from = end - HOUR;
  const first = before.columns.at.findIndex((at) => at >= from);
  const columns = {};
  for (const name of Object.keys(more.columns)) {
    const kept = first < 0 ? [] : (before.columns[name] ?? []).slice(first);
    columns[name] = [...kept, ...more.columns[name]];
  }
  const known = new Map([...before.decisions, ...more.decisions].map((one) => [one.at, one]));
  const decisions = [...known.values()].filter((one) => one.at >= from).sort((a, b) => a.at - b.at);
  return { ...more, end, columns, decisions };
}
