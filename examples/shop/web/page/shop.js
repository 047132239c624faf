// Shows the newest orders and which instances of the application answer; takes an order.
"use strict";

const $ = (selector) => document.querySelector(selector);
const answered = new Map(); // instance's host → when it last answered, in milliseconds

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

async function call(path, options) {
  const answer = await fetch("api" + path, options);
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  return answer.json();
}

async function refresh() {
  const [who, orders] = await Promise.all([call("/who"), call("/orders?limit=12")]);
  answered.set(who.address, Date.now());
  for (const [address, when] of answered) {
    if (Date.now() - when > 10_000) answered.delete(address);
  }
  $("#instances").replaceChildren(...[...answered.keys()].sort().map((address) => {
    const item = element("li", address);
    item.classList.toggle("now", address === who.address);
    return item;
  }));
  $("#count").textContent = orders.count;
  $("#orders").replaceChildren(...orders.orders.map(({ id, item, taken_by }) => {
    const line = document.createElement("li");
    line.append(element("span", `#${id}`), element("b", item), element("span", taken_by));
    return line;
  }));
}

async function keepFresh() {
  try {
    await refresh();
    if ($("#state").dataset.trouble) say("");
  } catch (error) {
    say(`The shop does not answer: ${error.message}`, "trouble");
  }
  setTimeout(keepFresh, 1000);
}

function say(text, trouble = "") {
  $("#state").textContent = text || "\u00a0";
  $("#state").dataset.trouble = trouble;
}

// Another text is another order.
$("form").item.addEventListener("input", ({ target }) => delete target.form.dataset.key);

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  // The key makes it one order, however often it has to be sent.
  const key = form.dataset.key ||= crypto.getRandomValues(new Uint32Array(4)).join("-");
  try {
    const order = await call("/orders", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ key, item: form.item.value }),
    });
    delete form.dataset.key;
    form.reset();
    say(`Order #${order.id} is taken.`);
    await refresh();
  } catch (error) {
    say(`Not ordered: ${error.message}. Order again.`);
  }
});

keepFresh();
