// What a person chose for this browser: theme and language. A browser that keeps nothing forgets it with the page.
import { store } from './store.js';

export function remembered(name) {
  try {
    return localStorage.getItem(`llmservice.${name}`) ?? '';
  } catch {
    return '';
  }
}

export function remember(name, value) {
  try {
    if (value) localStorage.setItem(`llmservice.${name}`, value);
    else localStorage.removeItem(`llmservice.${name}`);
  } catch {
    // Private windows refuse: the choice holds for as long as the page does.
  }
}

// '', 'light' or 'dark'; '' = as the system has it.
export const theme = store(remembered('theme'));

export function applyTheme(name) {
  theme.set(name);
  remember('theme', name);
  if (name) document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
}
