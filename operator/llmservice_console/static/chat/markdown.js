// A model's markdown as HTML that can do nothing: no script, no style, no picture, nothing that is loaded, links that
// only a click follows. HTML in an answer is shown as text, but for what only changes how words look.
import { marked } from '../../vendor/marked.js';
import DOMPurify from '../../vendor/purify.js';
import { html, useMemo } from '../dom.js';
import { Copy } from '../parts/small.js';

const MILD = /^<\/?(?:b|br|em|i|kbd|mark|s|strong|sub|sup|u)\s*\/?>$/i;
const WORDS = 'a b br code del em i kbd mark s strong sub sup u';
const BLOCKS = 'blockquote h1 h2 h3 h4 h5 h6 hr li ol p pre table tbody td th thead tr ul';

// A second wall behind MILD, against what marked itself may get wrong.
const SAFE = {
  ALLOWED_TAGS: `${WORDS} ${BLOCKS}`.split(' '),
  ALLOWED_ATTR: ['href', 'title', 'start', 'align'],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
};

DOMPurify.addHook('afterSanitizeAttributes', (node) => {
  if (node.tagName !== 'A' || !node.hasAttribute('href')) return;
  node.setAttribute('target', '_blank');
  node.setAttribute('rel', 'noopener noreferrer nofollow');
});

marked.use({
  renderer: {
    // Loading a picture would tell its server who reads: it is a link.
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || href)}</a>`,
    html: ({ text, block }) => (MILD.test(text.trim()) ? text : block ? `<p>${escaped(text)}</p>` : escaped(text)),
  },
});

function escaped(text) {
  return String(text).replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

// Blocks, so that a stream draws only its last one again, and what is selected above stays selected.
export function Markdown({ text }) {
  const blocks = useMemo(
    () => marked.lexer(text, { gfm: true, breaks: true }).filter((token) => token.type !== 'space'),
    [text],
  );
  return html`
    <div class="markdown">
      ${blocks.map((token, index) =>
        token.type === 'code'
          ? html`
              <${Code} key=${index} text=${token.text} language=${token.lang} />
            `
          : html`
              <${Block} key=${index} token=${token} raw=${token.raw} />
            `,
      )}
    </div>
  `;
}

function Block({ token, raw }) {
  const made = useMemo(() => ({ __html: DOMPurify.sanitize(marked.parser([token]), SAFE) }), [raw, token.type]);
  return html`
    <div class="block" dangerouslySetInnerHTML=${made}></div>
  `;
}

export function Code({ text, language = '' }) {
  return html`
    <div class="code">
      <div class="line">
        <span class="quiet small">${language}</span>
        <span class="grow"></span>
        <${Copy} text=${text} />
      </div>
      <pre
        tabindex="0"
        aria-label=${language || undefined}
        role=${language ? 'region' : undefined}
      ><code>${text}</code></pre>
    </div>
  `;
}
