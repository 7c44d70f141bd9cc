// The same request for a shell and for a program. Pure.

// Fields that openai-python does not know by name.
const BEYOND_OPENAI = ['top_k'];

export function curl(body, base, keys) {
  const key = keys ? ` \\\n  -H "Authorization: Bearer $LLMSERVICE_API_KEY"` : '';
  const data = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  return `curl -N ${base}/chat/completions -H 'Content-Type: application/json'${key} \\\n  -d '${data}'\n`;
}

export function python(body, base, keys) {
  const known = Object.entries(body).filter(([name]) => !BEYOND_OPENAI.includes(name));
  const beyond = Object.entries(body).filter(([name]) => BEYOND_OPENAI.includes(name));
  const given = known.map(([name, value]) => `    ${name}=${literal(value, 1)},\n`);
  if (beyond.length) given.push(`    extra_body=${literal(Object.fromEntries(beyond), 1)},\n`);
  const key = keys ? 'os.environ["LLMSERVICE_API_KEY"]' : '"none"';
  return `${keys ? 'import os\n\n' : ''}from openai import OpenAI

client = OpenAI(base_url="${base}", api_key=${key})
stream = client.chat.completions.create(
${given.join('')})
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
`;
}

function literal(value, depth) {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value !== 'object') return JSON.stringify(value);
  const inner = '    '.repeat(depth + 1);
  const lines = Array.isArray(value)
    ? value.map((one) => literal(one, depth + 1))
    : Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${literal(one, depth + 1)}`);
  const [open, close] = Array.isArray(value) ? '[]' : '{}';
  const flat = `${open}${lines.join(', ')}${close}`;
  if (flat.length + inner.length < 100 && !flat.includes('\n')) return flat;
  return `${open}\n${lines.map((line) => `${inner}${line},\n`).join('')}${'    '.repeat(depth)}${close}`;
}
