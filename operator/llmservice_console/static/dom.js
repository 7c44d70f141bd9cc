// The one module that names the libraries that draw: all others import from here.
import { h } from '../vendor/preact.js';
import htm from '../vendor/htm.js';

export { h, render, Fragment } from '../vendor/preact.js';
export { useEffect, useLayoutEffect, useMemo, useRef, useState } from '../vendor/hooks.js';

export const html = htm.bind(h);
