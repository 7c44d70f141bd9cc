// Where the person is: the part of the address behind `#`, as ['services', 'apps', 'qwen'].
import { store } from './store.js';

function read() {
  const path = location.hash.replace(/^#\/?/, '');
  return path ? path.split('/').map(decodeURIComponent) : [];
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
