// Words in the language of the person. What the server says (reasons, remedies, plans) stays as it says it, so that it
// can be searched for.
import { remember, remembered } from './settings.js';

export const LANGUAGES = { en: 'English', zh: '中文' };
let messages = {};
let plurals = new Intl.PluralRules('en');

export let language = 'en';

export async function speak(wanted) {
  language = wanted in LANGUAGES ? wanted : preferred();
  const answer = await fetch(new URL(`messages/${language}.json`, import.meta.url));
  messages = await answer.json();
  plurals = new Intl.PluralRules(language);
  document.documentElement.lang = language === 'zh' ? 'zh-Hans' : language;
  if (wanted) remember('language', language);
}

export function chosenLanguage() {
  return remembered('language');
}

function preferred() {
  const spoken = (navigator.languages ?? ['en']).map((tag) => tag.split('-')[0]);
  return spoken.find((tag) => tag in LANGUAGES) ?? 'en';
}

// The message `key`, with {names} filled in. With `count` the form `key.one` or `key.other` is taken.
export function t(key, values = {}) {
  const form = 'count' in values ? `${key}.${plurals.select(values.count)}` : key;
  const text = messages[form] ?? messages[`${key}.other`] ?? messages[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ''));
}

// A word of the API (a phase, a reason) in this language, where there is one; else as the API spells it.
export function word(kind, name) {
  return messages[`${kind}.${name}`] ?? name ?? '';
}
