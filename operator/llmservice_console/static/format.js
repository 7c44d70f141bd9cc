// Numbers for people. What is not known is a dash, never a zero.
import { language } from './i18n.js';

export const UNKNOWN = '–';
const known = (value) => typeof value === 'number' && Number.isFinite(value);

export function number(value, digits = 0) {
  if (!known(value)) return UNKNOWN;
  return value.toLocaleString(language, { maximumFractionDigits: digits, minimumFractionDigits: 0 });
}

// Three figures: 1,234, 56.7, 0.12.
export function figure(value) {
  if (!known(value)) return UNKNOWN;
  const size = Math.abs(value);
  return number(value, size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

export function bytes(value) {
  if (!known(value)) return UNKNOWN;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${figure(value)} ${units[unit]}`;
}

// Seconds: 0.35 s, 12 s, 3 min 20 s, 2 h 5 min.
export function seconds(value) {
  if (!known(value)) return UNKNOWN;
  if (value < 1) return `${number(value * 1000)} ms`;
  if (value < 60) return `${number(value, value < 10 ? 1 : 0)} s`;
  const whole = Math.round(value);
  if (whole < 3600) return parts([Math.floor(whole / 60), 'min'], [whole % 60, 's']);
  return parts([Math.floor(whole / 3600), 'h'], [Math.floor((whole % 3600) / 60), 'min']);
}

function parts(...given) {
  return given
    .filter(([value], index) => value || !index)
    .map(([value, unit]) => `${value} ${unit}`)
    .join(' ');
}

// `4Gi`, `512Mi`, `100M`, or a number of bytes, as bytes.
export function quantity(text) {
  const found = /^([\d.]+)\s*([KMGTP]i?)?B?$/.exec(String(text ?? ''));
  if (!found) return NaN;
  const power = found[2] ? 'KMGTP'.indexOf(found[2][0]) + 1 : 0;
  return Number(found[1]) * (found[2]?.endsWith('i') ? 1024 : 1000) ** power;
}

export function clock(unix) {
  return new Date(unix * 1000).toLocaleTimeString(language, {
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    hourCycle: 'h23',
  });
}

// How long ago, in the language: "3 minutes ago".
export function ago(unix, now = Date.now() / 1000) {
  const past = Math.max(0, now - unix);
  const [size, unit] =
    past < 60 ? [1, 'second'] : past < 3600 ? [60, 'minute'] : past < 86400 ? [3600, 'hour'] : [86400, 'day'];
  return new Intl.RelativeTimeFormat(language, { numeric: 'auto' }).format(-Math.round(past / size), unit);
}
