// Asking the gateway: the key, and errors as it tells them.
import { remember, remembered } from './settings.js';
import { store } from './store.js';

const KEY = 'llmservice.key';

// The API key of this tab, or of this browser where the person wants it kept; '' = none.
export const key = store(read());
// Why the gateway takes no request from here, by its error code; '' = it does.
export const refused = store('');

function read() {
  try {
    return sessionStorage.getItem(KEY) || remembered('key');
  } catch {
    return '';
  }
}

export function useKey(value, keep) {
  remember('key', keep ? value : '');
  try {
    sessionStorage.setItem(KEY, value);
  } catch {
    // It holds for as long as the page does.
  }
  key.set(value);
  refused.set('');
}

// What went wrong, in the words of whoever refused. `status` 0: no answer came.
export class ApiError extends Error {
  constructor(message, { status = 0, code = '', param = '', retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, code, param, retryAfter });
  }
}

// The response, once it is one of success. Raises ApiError, and AbortError when `signal` ends it.
export async function ask(path, { method = 'GET', body, signal } = {}) {
  const headers = {};
  if (key.value) headers.Authorization = `Bearer ${key.value}`;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const text = body === undefined ? undefined : JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, { method, headers, body: text, signal, cache: 'no-cache', credentials: 'omit' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError('', { code: 'unreachable' });
  }
  if (response.ok) return response;
  const error = await failure(response);
  if (error.status === 401) refused.set(error.code || 'api_key_required');
  throw error;
}

export async function asked(path, options) {
  const response = await ask(path, options);
  return response.json();
}

async function failure(response) {
  const retryAfter = Number(response.headers.get('Retry-After')) || null;
  const text = await response.text().catch(() => '');
  try {
    const { message, code, param } = JSON.parse(text).error;
    return new ApiError(message, { status: response.status, code, param, retryAfter });
  } catch {
    return new ApiError(text.slice(0, 300) || response.statusText, { status: response.status, retryAfter });
  }
}
