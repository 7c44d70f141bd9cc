// A service's manifest, to read and to take along.
import { html } from '../dom.js';
import { t } from '../i18n.js';
import { Copy } from './small.js';

export function Manifest({ one: { manifest, manifestNote } }) {
  if (!manifest) return null;
  return html`
    <section class="card" aria-labelledby="manifest">
      <div class="line">
        <h2 id="manifest">${t('manifest')}</h2>
        <span class="grow"></span>
        <${Copy} text=${manifest} />
      </div>
      ${
        manifestNote &&
        html`
          <p class="quiet small">${manifestNote}</p>
        `
      }
      <pre class="yaml" tabindex="0" role="region" aria-labelledby="manifest"><code>${manifest}</code></pre>
    </section>
  `;
}
