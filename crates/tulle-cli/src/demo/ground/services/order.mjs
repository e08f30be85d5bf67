// `order`, in JavaScript: asks `stock` and `payment` by their names before it answers, and tells
// what they said. It knows of no mesh.
//
// node order.mjs PORT INSTANCE VERSION

import http from "node:http";

const [port, instance, version] = process.argv.slice(2);
const CALLS = ["http://stock:8080/", "http://payment:7070/"];
const agent = new http.Agent({ keepAlive: true });

// What belongs to the request as a whole goes with the calls that are made for it.
function handedOn(headers) {
  const names = Object.keys(headers).filter(
    (name) => name.startsWith("x-") && !/^x-(forwarded|envoy)-/.test(name),
  );
  return Object.fromEntries(names.map((name) => [name, headers[name]]));
}

function call(url, headers) {
  return new Promise((resolve) => {
    const failed = (error) => resolve({ url, status: 0, error: error.message });
    const request = http.get(url, { agent, headers }, (response) => {
      let text = "";
      response.on("data", (piece) => (text += piece));
      response.on("error", failed);
      response.on("end", () => {
        let answer = text;
        try {
          answer = JSON.parse(text);
        } catch {
          // Not from an application: the text says why.
        }
        resolve({ url, status: response.statusCode, answer });
      });
    });
    request.on("error", failed);
  });
}

const server = http.createServer(async (request, response) => {
  for await (const _ of request); // An order may have a body.
  const { method, url, headers } = request;
  console.log(JSON.stringify({ instance, method, url, headers }));
  const calls = [];
  for (const target of CALLS) calls.push(await call(target, handedOn(headers)));
  const failed = calls.some(({ status }) => status === 0 || status >= 500);
  response.writeHead(failed ? 502 : 200, { "content-type": "application/json" });
  response.end(JSON.stringify({ service: "order", version, instance, calls }));
});
server.listen(Number(port), "0.0.0.0");
