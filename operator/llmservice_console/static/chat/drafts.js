// What is typed and not sent, by conversation: it is there again when the person comes back to it. It lives as long as
// the page.
const NOTHING = { text: '', pictures: [] };
const drafts = new Map();

export function draft(id) {
  return drafts.get(id) ?? NOTHING;
}

export function keep(id, what) {
  if (what.text || what.pictures.length) drafts.set(id, what);
  else drafts.delete(id);
}
