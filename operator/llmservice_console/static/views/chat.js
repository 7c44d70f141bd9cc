// Talking to models: conversations beside, the open one with its models, its options, its turns and what comes next.
import { html, useEffect, useState } from '../dom.js';
import { Composer } from '../chat/composer.js';
import { draft } from '../chat/drafts.js';
import { Models, best } from '../chat/models.js';
import { Options } from '../chat/options.js';
import { Talks } from '../chat/sidebar.js';
import { busy, known, open } from '../chat/talking.js';
import { fresh, refresh } from '../chat/talks.js';
import { Thread } from '../chat/thread.js';
import { t } from '../i18n.js';
import { services, session, usePoll } from '../live.js';
import { remember, remembered } from '../settings.js';
import { useStore } from '../store.js';

// Names that can be talked to: services that chat, and their adapters.
export function models(all) {
  const chats = all.filter((one) => one.task === 'Chat' || !one.task);
  return chats.flatMap((one) => [
    { name: one.name, service: one },
    ...one.adapters
      .filter((adapter) => !adapter.problem)
      .map((adapter) => ({ name: `${one.name}:${adapter.name}`, service: one })),
  ]);
}

export function Chat({ path: [, which, model] }) {
  const { value } = usePoll(services);
  usePoll(session);
  const talk = useStore(open);
  const [settings, setSettings] = useState(false);
  const [drawer, setDrawer] = useState(false);
  useEffect(() => setDrawer(false), [talk?.id]);
  const choices = models(value?.services ?? []);
  useEffect(() => void refresh(), []);
  useEffect(() => void choose(which, model, choices), [which, model, Boolean(value)]);
  if (!value || !talk)
    return html`
      <p class="quiet" role="status">${t('loading')}</p>
    `;
  if (!choices.length)
    return html`
      <div class="card nothing">
        <h1>${t('chat')}</h1>
        <p class="quiet">${t('chat.nobody')}</p>
      </div>
    `;
  const sees = talk.models.every((name) => choices.find((one) => one.name === name)?.service.pictures);
  return html`
    <${Talks} talk=${talk} drawn=${drawer} />
    <div class="talk">
      <div class="talk-head">
        <button
          type="button"
          class="plain icon narrow-only"
          aria-expanded=${drawer ? 'true' : 'false'}
          aria-controls="talks"
          aria-label=${t('chat.talks')}
          onClick=${() => setDrawer(!drawer)}
        >
          ☰
        </button>
        <h1 class="unseen">${talk.title || t('chat.new')}</h1>
        <${Models} talk=${talk} choices=${choices} />
        <span class="grow"></span>
        <button
          type="button"
          class="plain"
          aria-expanded=${settings ? 'true' : 'false'}
          aria-controls="options"
          onClick=${() => setSettings(!settings)}
        >
          ${t('options')}
        </button>
      </div>
      ${
        settings &&
        html`
          <${Options} talk=${talk} />
        `
      }
      <${Thread} talk=${talk} choices=${choices} />
      <${Composer} key=${talk.id} talk=${talk} busy=${busy(talk)} sees=${sees} />
    </div>
  `;
}

// Whether a new conversation is open whose first question is being written: nobody is to write it again.
function begun(talk) {
  if (!talk || talk.turns.length) return false;
  const { text, pictures } = draft(talk.id);
  return Boolean(text.trim() || pictures.length);
}

// Open the conversation that the address means: one that is kept, or a new one with a model.
async function choose(which, model, choices) {
  if (!choices.length || (which && which !== 'new' && open.value?.id === which)) return;
  if (which && which !== 'new') {
    const kept = await known(which);
    if (kept) return open.set(kept);
  }
  const names = choices.map((one) => one.name);
  const ready = best(choices);
  const wanted = [model, remembered('model'), ready.name].find((name) => names.includes(name));
  if (!begun(open.value)) open.set(fresh([wanted]));
  else if (model) open.set({ ...open.value, models: [wanted] });
  if (model) remember('model', wanted);
}
