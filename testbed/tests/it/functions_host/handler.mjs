#!/usr/bin/env node
// A custom handler that does what it is told, and writes down every request.
import { createServer } from "node:http";
import { appendFileSync } from "node:fs";

const answer = (response, status, body, headers = {}) => {
  response.writeHead(status, { "Content-Type": "application/json", ...headers });
  response.end(body);
};

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    if (request.url === "/") return answer(response, 404, "");
    const body = Buffer.concat(chunks).toString();
    const seen = { method: request.method, url: request.url, headers: request.headers, body, pid: process.pid };
    appendFileSync(process.env.SEEN, JSON.stringify(seen) + "\n");
    if (request.url.startsWith("/api/"))
      return answer(response, 207, JSON.stringify(seen), { "X-Own": "kept", Location: "/elsewhere" });
    let message = JSON.parse(body).Data.message ?? {};
    while (typeof message === "string") {
      try {
        message = JSON.parse(message);
      } catch {
        message = { then: "succeed" };
      }
    }
    // A message that was given up has done what it asks for as often as it is to.
    switch (request.url === "/Poison" ? "succeed" : message.then) {
      case "fail":
        return answer(response, 500, "{}");
      case "nothing":
        return answer(response, 200, "");
      case "hang":
        return;
      case "exit":
        return process.exit(message.code);
      case "wait":
        return setTimeout(() => answer(response, 200, "{}"), message.ms);
      default:
        return answer(response, 200, JSON.stringify({ Outputs: {}, Logs: ["a line of its own"], ReturnValue: null }));
    }
  });
});
console.log("on standard output");
console.error("on standard error");
console.error("WARN: on standard error");
server.listen(process.env.FUNCTIONS_CUSTOMHANDLER_PORT, "127.0.0.1");
