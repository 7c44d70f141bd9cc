// Where the person is: the part of the address behind `#`, as ['services', 'apps', 'qwen'].
import { store } from './store.js';

function read() {
  const path = location.hash.replace(/^#\/?|\/$/g, '');
  return path ? path.split('/').map(decoded) : [];
}

// A part that somebody typed need not be written as an address has it (`100%`): then it is what it looks like.
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export const route = store(read());

export function listen() {
  addEventListener('hashchange', () => route.set(read()));
}

export function href(...parts) {
  return `#/${parts.map(encodeURIComponent).join('/')}`;
}

export function go(...parts) {
  location.hash = href(...parts);
}
