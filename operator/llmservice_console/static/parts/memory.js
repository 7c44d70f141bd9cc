// The estimate of the memory, line by line, and beside it what was measured: one bar each on the same scale.
import { html } from '../dom.js';
import { bytes } from '../format.js';
import { t } from '../i18n.js';

export function Memory({ one: { plan, load } }) {
  const lines = load?.memory?.length ? load.memory : plan?.memory;
  if (!lines?.length) return null;
  const places = ['GPU', 'Host'].filter((where) => lines.some((line) => line.where === where));
  return html`
    <section class="card" aria-labelledby="memory">
      <h2 id="memory">${t('memory')}</h2>
      ${places.map(
        (where) => html`
          <${Place}
            key=${where}
            where=${where}
            lines=${lines.filter((line) => line.where === where)}
            measured=${where === 'GPU' ? load?.measuredGPUMemory : load?.measuredMemory}
          />
        `,
      )}
      ${load?.findings?.map(
        (finding) => html`
          <p key=${finding} class="told busy">${finding}</p>
        `,
      )}
    </section>
  `;
}

// Lines of a plan in one place (host, GPUs), in bytes; `measured` = all of it, null where nobody can tell.
export function Place({ where, lines: all, measured }) {
  const lines = all.filter((line) => line.planned || line.measured);
  const planned = sum(lines, 'planned');
  const told = lines.some((line) => line.measured != null);
  const whole = Math.max(planned, measured ?? 0, sum(lines, 'measured')) || 1;
  return html`
    <figure class="bars">
      <figcaption class="unseen">${t(`memory.${where}`)}</figcaption>
      <${Bar} name=${t('memory.planned')} total=${planned} lines=${lines} part="planned" whole=${whole} />
      ${
        (told || measured) &&
        html`
          <${Bar}
            name=${t('memory.measured')}
            total=${measured ?? sum(lines, 'measured')}
            lines=${lines}
            part="measured"
            whole=${whole}
          />
        `
      }
    </figure>
    <div class="scroll" tabindex="0" role="region" aria-label=${t(`memory.${where}`)}>
      <table class="lines">
        <thead>
          <tr>
            <th scope="col">${t(`memory.${where}`)}</th>
            <th scope="col">${t('memory.planned')}</th>
            ${
              told &&
              html`
                <th scope="col">${t('memory.measured')}</th>
              `
            }
          </tr>
        </thead>
        <tbody>
          ${lines.map(
            (line, index) => html`
              <tr key=${line.name}>
                <th scope="row">
                  <i class=${`swatch c${index % 8}`} aria-hidden="true"></i>
                  ${line.name}
                </th>
                <td>${bytes(line.planned)}</td>
                ${
                  told &&
                  html`
                    <td>${bytes(line.measured)}</td>
                  `
                }
              </tr>
            `,
          )}
        </tbody>
      </table>
    </div>
  `;
}

function Bar({ name, total, lines, part, whole }) {
  return html`
    <div class="bar-row">
      <span class="quiet small">${name}</span>
      <span class="bar" aria-hidden="true">
        ${lines.map(
          (line, index) =>
            line[part] > 0 &&
            html`
              <i
                key=${line.name}
                class=${`c${index % 8}`}
                title=${`${line.name}: ${bytes(line[part])}`}
                style=${{ width: `${(100 * line[part]) / whole}%` }}
              ></i>
            `,
        )}
      </span>
      <b>${bytes(total)}</b>
    </div>
  `;
}

function sum(lines, part) {
  return lines.reduce((total, line) => total + (line[part] ?? 0), 0);
}
