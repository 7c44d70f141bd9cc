// What is so now, asked again and again for as long as somebody looks: often while the page is seen, rarely while not.
import { asked, key } from './api.js';
import { useEffect } from './dom.js';
import { store, useStore } from './store.js';

const SEEN_MS = 2000;
const HIDDEN_MS = 10000;

// What `fetch` gives, as {value, error, at}, for as long as the store `state` has readers; `kick` asks at once.
export class Poll {
  constructor(fetch, { every = SEEN_MS } = {}) {
    this.state = store({ value: null, error: null });
    this.kick = () => void (this.#users && this.#look());
    this.#fetch = fetch;
    this.#every = every;
  }
  #fetch;
  #every;
  #users = 0;
  #timer = 0;
  #turn = 0;

  // Begin to ask; gives what ends it again.
  use() {
    if (!this.#users++) {
      document.addEventListener('visibilitychange', this.kick);
      this.#look();
    }
    return () => {
      if (--this.#users) return;
      document.removeEventListener('visibilitychange', this.kick);
      clearTimeout(this.#timer);
      this.#turn++;
    };
  }

  async #look() {
    clearTimeout(this.#timer);
    const turn = ++this.#turn;
    let next;
    try {
      next = { value: await this.#fetch(this.state.value.value), error: null };
    } catch (error) {
      next = { value: this.state.value.value, error };
    }
    if (turn !== this.#turn) return;
    const before = this.state.value;
    if (next.value !== before.value || String(next.error) !== String(before.error)) this.state.set(next);
    this.#timer = setTimeout(this.kick, document.hidden ? HIDDEN_MS : this.#every);
  }
}

// A poll's {value, error}, asked for while the component is there.
export function usePoll(poll) {
  useEffect(() => poll.use(), [poll]);
  return useStore(poll.state);
}

// The same JSON as before is the same object: nothing is drawn for it.
export function changed(path) {
  let last = '';
  return async (before) => {
    const value = await asked(path);
    const { at, ...rest } = value;
    const text = JSON.stringify(rest);
    if (before && text === last) return before;
    last = text;
    return value;
  };
}

export const session = new Poll(changed('/-/api/session'), { every: 20000 });
export const services = new Poll(changed('/-/api/services'));
key.subscribe(() => {
  session.kick();
  services.kick();
});
