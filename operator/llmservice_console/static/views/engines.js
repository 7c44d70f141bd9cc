// What a model could run on: every engine, every version, and the plan for a machine that is chosen.
import { html, useEffect, useRef, useState } from '../dom.js';
import { asked } from '../api.js';
import { bytes } from '../format.js';
import { t } from '../i18n.js';
import { session, usePoll } from '../live.js';
import { Place } from '../parts/memory.js';
import { Notes, Rejected, predicted } from '../parts/plan.js';
import { Copy, Problem, Said, engineName } from '../parts/small.js';
import { go } from '../route.js';

export function Engines({ path: [, uri = ''] }) {
  const { value: about } = usePoll(session);
  const [found, setFound] = useState({});
  const turn = useRef(null);
  useEffect(() => () => turn.current?.abort(), []);
  if (!about?.engines) return null;
  if (!about.engines.allowed)
    return html`
      <div class="card nothing">
        <h1>${t('nav.engines')}</h1>
        <p class="quiet"><${Said} text=${about.engines.why} /></p>
      </div>
    `;

  const look = async (body) => {
    turn.current?.abort();
    const ends = (turn.current = new AbortController());
    setFound({ busy: true });
    try {
      setFound({ told: await asked('/-/api/engines', { method: 'POST', body, signal: ends.signal }) });
    } catch (error) {
      if (error.name !== 'AbortError') setFound({ error });
    }
  };
  return html`
    <div class="head">
      <h1>${t('nav.engines')}</h1>
      <p class="quiet">${t('engines.what')}</p>
    </div>
    <${Form} uri=${uri} gpus=${about.engines.gpus} here=${about.place === 'local'} look=${look} busy=${found.busy} />
    <div aria-live="polite">
      ${
        found.busy &&
        html`
          <p class="quiet">${t('engines.reading')}</p>
        `
      }
      ${
        found.error &&
        html`
          <${Problem} error=${found.error} />
        `
      }
    </div>
    ${
      found.told &&
      html`
        <${Told} told=${found.told} />
      `
    }
  `;
}

function Form({ uri, gpus, here, look, busy }) {
  const send = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const text = (name) => String(form.get(name) ?? '').trim() || null;
    go('engines', text('uri'));
    look({
      uri: text('uri'),
      revision: text('revision'),
      gpu: text('gpu'),
      gpus: text('gpu') ? Number(text('gpus')) || 1 : null,
      memory: text('memory'),
    });
  };
  return html`
    <form class="card engines-form" onSubmit=${send}>
      <div class="field uri">
        <label for="uri">${t('engines.uri')}</label>
        <input
          id="uri"
          name="uri"
          required
          spellcheck="false"
          autocapitalize="off"
          placeholder="hf://Qwen/Qwen2.5-7B-Instruct-GGUF"
          defaultValue=${uri}
        />
      </div>
      <div class="numbers">
        <div class="field">
          <label for="revision">${t('engines.revision')}</label>
          <input id="revision" name="revision" placeholder="main" spellcheck="false" />
        </div>
        <div class="field">
          <label for="gpu">${t('engines.gpu')}</label>
          <select id="gpu" name="gpu">
            <option value="">${t(here ? 'engines.here' : 'engines.cpu')}</option>
            ${gpus.map(
              (name) => html`
                <option key=${name} value=${name}>${name}</option>
              `,
            )}
          </select>
        </div>
        <div class="field">
          <label for="gpus">${t('engines.gpus')}</label>
          <input id="gpus" name="gpus" type="number" min="1" max="64" placeholder="1" />
        </div>
        <div class="field">
          <label for="memory">${t('engines.memory')}</label>
          <input id="memory" name="memory" placeholder="64Gi" spellcheck="false" />
        </div>
      </div>
      <button class="primary" disabled=${busy}>${t('engines.look')}</button>
    </form>
  `;
}

function Told({ told: { where, rows, leftOut, plan, refusal, manifest } }) {
  return html`
    ${
      refusal &&
      html`
        <${Refused} refusal=${refusal} />
      `
    }
    ${
      plan &&
      html`
        <${Planned} plan=${plan} manifest=${manifest} />
      `
    }
    <section class="card" aria-labelledby="table">
      <h2 id="table">${t('engines.table')}</h2>
      <p class="quiet small">${where}</p>
      <div class="scroll" tabindex="0" role="region" aria-labelledby="table">
        <table class="engines">
          <thead>
            <tr>
              ${['engine', 'format', 'quantization', 'size', 'runs', 'why'].map(
                (name) => html`
                  <th scope="col" key=${name} class=${name === 'size' ? '' : 'text'}>${t(`engines.${name}`)}</th>
                `,
              )}
            </tr>
          </thead>
          <tbody>
            ${rows.map(
              (row, index) => html`
                <tr key=${index} class=${row.runs ? '' : 'cannot'}>
                  <th scope="row">${row.engine}</th>
                  <td class="text">${row.format}</td>
                  <td class="text">${row.quantization}</td>
                  <td>${bytes(row.size)}</td>
                  <td class="text">
                    <span class=${`state ${row.runs ? 'good' : 'calm'}`}>
                      <i aria-hidden="true"></i>
                      ${t(row.runs ? 'yes' : 'no')}
                    </span>
                  </td>
                  <td class="text why">${row.reason}</td>
                </tr>
              `,
            )}
          </tbody>
        </table>
      </div>
      ${leftOut?.map(
        (line) => html`
          <p key=${line} class="quiet small">${line}</p>
        `,
      )}
    </section>
  `;
}

function Planned({ plan, manifest }) {
  const places = ['GPU', 'Host'].filter((one) => plan.memory?.some((line) => line.where === one));
  return html`
    <section class="card" aria-labelledby="planned">
      <h2 id="planned">${t('engines.plan')}</h2>
      <p>
        <b>${engineName(plan.engine)}</b>${' '}
        <span class="quiet"><${Said} text=${plan.reason} /></span>
      </p>
      <p>${plan.summary}</p>
      ${
        predicted(plan.speed) &&
        html`
          <p class="quiet">${t('plan.speed')}: ${predicted(plan.speed)}</p>
        `
      }
      ${places.map(
        (one) => html`
          <${Place} key=${one} where=${one} lines=${plan.memory.filter((line) => line.where === one)} />
        `,
      )}
      <${Rejected} rejected=${plan.rejected} />
      <${Notes} notes=${plan.notes} />
      ${
        manifest &&
        html`
          <div class="line">
            <h3>${t('manifest')}</h3>
            <span class="grow"></span>
            <${Copy} text=${manifest} />
          </div>
          <pre class="yaml" tabindex="0" role="region" aria-label=${t('manifest')}><code>${manifest}</code></pre>
        `
      }
    </section>
  `;
}

function Refused({ refusal }) {
  return html`
    <section class="card refused" aria-labelledby="refused">
      <h2 id="refused">${t('engines.refused')}</h2>
      <p class="told bad"><${Said} text=${refusal.reason} /></p>
      ${
        refusal.waysOut?.length > 0 &&
        html`
          <h3>${t('engines.ways')}</h3>
          <ol class="ways">
            ${refusal.waysOut.map(
              (way) => html`
                <li key=${way}><${Said} text=${way} /></li>
              `,
            )}
          </ol>
        `
      }
      <${Rejected} rejected=${refusal.rejected} />
    </section>
  `;
}
