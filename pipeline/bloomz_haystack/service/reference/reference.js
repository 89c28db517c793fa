// openapi.json -> one section per door: what it takes, what it gives, an example and the same as curl.

const make = (tag, text = "", ...children) => {
  const node = document.createElement(tag);
  node.textContent = text;
  node.append(...children);
  return node;
};

const schema = await (await fetch("openapi.json")).json();
document.querySelector("#about").textContent = schema.info.description;

const doors = Object.entries(schema.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, door]) => ({ path, method: method.toUpperCase(), ...door })),
);
const links = doors.map((door) => {
  const link = make("a", `${door.method} ${door.path}`);
  link.href = `#${door.operationId}`;
  return make("li", "", link, ` ${door.summary}`);
});
document.querySelector("#contents").append(make("ul", "", ...links));
document.querySelector("#operations").replaceChildren(...doors.map(section));
if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();

function section(door) {
  const part = make("section", "", make("h2", `${door.method} ${door.path}`), make("p", door.description ?? door.summary));
  part.id = door.operationId;
  const bodies = Object.entries(door.requestBody?.content ?? {});
  if (door.parameters) part.append(make("h3", "In the address"), table(door.parameters.map(ofParameter)));
  for (const [kind, { schema: body }] of bodies) part.append(make("h3", `Takes (${kind})`), ...described(resolved(body)));
  const example = bodies.map(([, content]) => resolved(content.schema).examples?.[0]).find(Boolean);
  part.append(make("h3", "As curl"), make("pre", curl(door, example, bodies)));
  for (const [status, reply] of Object.entries(door.responses)) {
    const body = reply.content?.["application/json"]?.schema;
    if (status.startsWith("2") && body) part.append(make("h3", `Gives (${status})`), ...described(resolved(body)));
  }
  return part;
}

function described(body) {
  const fields = Object.entries(body.properties ?? {}).map(([name, field]) => ({
    name: body.required?.includes(name) ? `${name} *` : name,
    type: typeOf(field),
    standard: field.default === undefined ? "" : JSON.stringify(field.default),
    description: field.description ?? resolved(field).description ?? "",
  }));
  const examples = (body.examples ?? []).map((example) => make("pre", JSON.stringify(example, null, 2)));
  const inner = Object.values(body.properties ?? {}).flatMap(typesIn);
  const parts = inner.filter((part) => part.properties).flatMap((part) => [make("h4", part.title), ...described(part)]);
  return [make("p", body.description ?? ""), table(fields), ...parts, ...examples];
}

/** Return the types that a field is made of. */
function typesIn(field) {
  if (field.$ref || field.properties) return [resolved(field)];
  return [...(field.anyOf ?? []), ...(field.items ? [field.items] : [])].flatMap(typesIn);
}

function ofParameter(parameter) {
  return {
    name: parameter.required ? `${parameter.name} *` : parameter.name,
    type: typeOf(parameter.schema),
    standard: parameter.schema.default === undefined ? "" : JSON.stringify(parameter.schema.default),
    description: parameter.description ?? "",
  };
}

function table(fields) {
  if (fields.length === 0) return "";
  const head = make("tr", "", ...["Field", "Type", "Default", ""].map((title) => make("th", title)));
  const rows = fields.map((field) =>
    make("tr", "", make("td", "", make("code", field.name)), ...[field.type, field.standard, field.description].map((text) => make("td", text))),
  );
  return make("table", "", head, ...rows);
}

function resolved(part) {
  const name = part.$ref?.split("/").at(-1);
  return name ? schema.components.schemas[name] : part;
}

function typeOf(field) {
  if (field.$ref) return field.$ref.split("/").at(-1);
  if (field.properties) return field.title;
  if (field.anyOf) return field.anyOf.map(typeOf).join(" or ");
  if (field.enum) return field.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (field.const !== undefined) return JSON.stringify(field.const);
  return field.type === "array" ? `list of ${typeOf(field.items)}` : (field.type ?? "anything");
}

function curl(door, example, bodies) {
  const address = new URL(door.path.slice(1), document.baseURI).href;
  if (bodies.some(([kind]) => kind.startsWith("multipart/"))) return `curl ${address} -F files=@notes.pdf`;
  if (!example) return `curl ${door.method === "GET" ? "" : `-X ${door.method} `}${address}`;
  const body = JSON.stringify(example).replaceAll("'", String.raw`'\''`);
  const method = door.method === "POST" ? "" : `-X ${door.method} `;
  return `curl ${method}${address} -H 'Content-Type: application/json' \\\n  -d '${body}'`;
}
