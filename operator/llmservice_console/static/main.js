import { h, render } from "../vendor/preact.js";

const response = await fetch("/-/api/services");
const said = await response.json();
render(h("pre", null, JSON.stringify(said, null, 2)), document.getElementById("app"));
