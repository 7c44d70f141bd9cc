// A value that many components look at. Whoever changes it says so by `set`; who shows it is drawn again.
import { useEffect, useState } from './dom.js';

export function store(value) {
  const readers = new Set();
  return {
    get value() {
      return value;
    },
    set(next) {
      if (next === value) return;
      value = next;
      for (const read of [...readers]) read(value);
    },
    subscribe(read) {
      readers.add(read);
      return () => readers.delete(read);
    },
    get watched() {
      return readers.size > 0;
    },
  };
}

// The value of a store; the component is drawn again when it changes.
export function useStore(of) {
  const [, redraw] = useState(0);
  useEffect(() => {
    const seen = of.value;
    const stop = of.subscribe(() => redraw((count) => count + 1));
    if (of.value !== seen) redraw((count) => count + 1);
    return stop;
  }, [of]);
  return of.value;
}
