// The official client against a running mboold:
//
//     node check.mjs http://127.0.0.1:PORT/v1 FOLDER_WITH_NODE_MODULES
//
// Prints what went wrong, and ends with 1; or with 0.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const [baseURL, modules] = process.argv.slice(2);
const OpenAI = createRequire(modules + '/')('openai');
const client = new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0 });
const messages = [{ role: 'user', content: 'Hi' }];
const fixed = { model: 'tiny', seed: 1, ignore_eos: true };

const checks = {
  async 'models are listed and found'() {
    const list = await client.models.list();
    assert.deepEqual(list.data.map((m) => m.id), ['tiny']);
    assert.equal((await client.models.retrieve('tiny')).object, 'model');
  },

  async 'a completion'() {
    const c = await client.completions.create({ ...fixed, prompt: ['a', 'b'], n: 2, max_tokens: 5, logprobs: 2 });
    assert.equal(c.choices.length, 4);
    assert.deepEqual(c.choices.map((x) => x.index), [0, 1, 2, 3]);
    assert.equal(c.choices[0].logprobs.tokens.length, 5);
    assert.equal(c.usage.completion_tokens, 20);
    assert.equal(c.usage.total_tokens, 24);
    assert.match(c._request_id, /^[0-9a-f]{16}$/);
  },

  async 'a streamed completion is the whole in pieces'() {
    const body = { ...fixed, prompt: 'a', max_tokens: 30 };
    const whole = await client.completions.create(body);
    let text = '', finish = null;
    for await (const chunk of await client.completions.create({ ...body, stream: true })) {
      text += chunk.choices[0].text;
      finish = chunk.choices[0].finish_reason ?? finish;
    }
    assert.equal(text, whole.choices[0].text);
    assert.equal(finish, 'length');
  },

  async 'a chat, whole and through the helper for streams'() {
    const body = { ...fixed, messages, max_completion_tokens: 30 };
    const whole = await client.chat.completions.create({ ...body, logprobs: true, top_logprobs: 3 });
    assert.equal(whole.choices[0].message.role, 'assistant');
    assert.equal(whole.choices[0].logprobs.content.length, 30);
    const stream = client.chat.completions.stream({ ...body, stream_options: { include_usage: true } });
    let deltas = '';
    stream.on('content', (delta) => { deltas += delta; });
    const final = await stream.finalChatCompletion();
    assert.equal(final.choices[0].message.content, whole.choices[0].message.content);
    assert.equal(deltas, whole.choices[0].message.content);
    assert.equal(final.usage.completion_tokens, 30);
    assert.equal(final.system_fingerprint, whole.system_fingerprint);
  },

  async 'a schema is kept'() {
    const c = await client.chat.completions.parse({
      model: 'tiny', messages, seed: 2, max_tokens: 600,
      response_format: {
        type: 'json_schema',
        json_schema: {
          name: 'pet', strict: true,
          schema: {
            type: 'object',
            properties: { kind: { enum: ['cat', 'dog'] }, age: { type: 'integer', minimum: 0, maximum: 30 } },
            required: ['kind', 'age'], additionalProperties: false,
          },
        },
      },
    });
    const pet = JSON.parse(c.choices[0].message.content);
    assert.ok(['cat', 'dog'].includes(pet.kind) && Number.isInteger(pet.age));
  },

  async 'calls of tools come back as calls'() {
    const body = {
      model: 'tiny', messages, seed: 2, max_tokens: 600,
      tools: [{ type: 'function', function: { name: 'f', parameters: { type: 'object', properties: {} } } }],
      response_format: {
        type: 'json_schema',
        json_schema: {
          name: 'call',
          schema: {
            type: 'object',
            properties: { name: { const: 'f' }, parameters: { type: 'object', additionalProperties: false } },
            required: ['name', 'parameters'], additionalProperties: false,
          },
        },
      },
    };
    const c = await client.chat.completions.create(body);
    assert.equal(c.choices[0].finish_reason, 'tool_calls');
    const call = c.choices[0].message.tool_calls[0];
    assert.equal(call.function.name, 'f');
    assert.deepEqual(JSON.parse(call.function.arguments), {});
    const streamed = await client.chat.completions.stream(body).finalChatCompletion();
    assert.equal(streamed.choices[0].message.tool_calls[0].function.name, 'f');
    const next = await client.chat.completions.create({
      model: 'tiny', max_tokens: 3,
      messages: [...messages, c.choices[0].message, { role: 'tool', tool_call_id: call.id, content: '7' }],
    });
    assert.equal(next.choices.length, 1);
  },

  async 'files, a job, its events and its checkpoints'() {
    const text = '{"prompt": "a b", "completion": " c d"}\n'.repeat(8);
    const file = await client.files.create({ file: new File([text], 'train.jsonl'), purpose: 'fine-tune' });
    assert.equal(file.status, 'processed');
    assert.equal((await client.files.retrieve(file.id)).bytes, text.length);
    assert.equal(await (await client.files.content(file.id)).text(), text);
    assert.deepEqual((await client.files.list()).data.map((f) => f.id), [file.id]);
    let job = await client.fineTuning.jobs.create({
      model: 'tiny', training_file: file.id, validation_file: file.id, suffix: 'node', seed: 5,
      method: { type: 'supervised', supervised: { hyperparameters: { n_epochs: 6, batch_size: 8 } } },
      metadata: { from: 'node' },
    });
    assert.match(job.id, /^ftjob-/);
    while (!job.finished_at) {
      await new Promise((done) => setTimeout(done, 100));
      job = await client.fineTuning.jobs.retrieve(job.id);
    }
    assert.equal(job.status, 'succeeded', JSON.stringify(job.error));
    assert.deepEqual(job.metadata, { from: 'node' });
    assert.match(job.fine_tuned_model, /^ft:tiny:node:/);
    const events = [];
    for await (const event of client.fineTuning.jobs.listEvents(job.id, { limit: 5 })) events.push(event); // all pages
    assert.equal(events.at(-1).message, 'Created fine-tuning job');
    assert.ok(events.some((e) => e.type === 'metrics' && e.data.train_loss > 0 && 'eta_seconds' in e.data));
    const checkpoints = [];
    for await (const c of client.fineTuning.jobs.checkpoints.list(job.id, { limit: 1 })) checkpoints.push(c);
    assert.equal(checkpoints[0].fine_tuned_model_checkpoint, job.fine_tuned_model);
    assert.ok(checkpoints.length >= 2 && checkpoints.every((c) => c.metrics.full_valid_loss > 0));
    for (const model of [job.fine_tuned_model, checkpoints[1].fine_tuned_model_checkpoint]) {
      assert.equal((await client.completions.create({ ...fixed, model, prompt: 'a', max_tokens: 3 })).model, model);
    }
    const again = await client.fineTuning.jobs.create({ model: 'tiny', training_file: file.id,
      method: { type: 'supervised', supervised: { hyperparameters: { n_epochs: 1000 } } } });
    await client.fineTuning.jobs.pause(again.id);
    assert.ok(['pausing', 'paused', 'cancelled'].includes((await client.fineTuning.jobs.retrieve(again.id)).status));
    assert.equal((await client.fineTuning.jobs.cancel(again.id)).status, 'cancelled');
    const done = await client.fineTuning.jobs.resume(again.id).catch((e) => e);
    assert.ok(done instanceof OpenAI.ConflictError, `${done}`);
    const jobs = await client.fineTuning.jobs.list({ limit: 1 });
    assert.equal(jobs.data[0].id, again.id);
    assert.equal((await client.files.delete(file.id)).deleted, true);
    const bad = await client.files.create({ file: new File(['x'], 'x'), purpose: 'vision' }).catch((e) => e);
    assert.ok(bad instanceof OpenAI.BadRequestError && bad.param === 'purpose', `${bad}`);
  },

  async 'errors are of their classes'() {
    const bad = await client.chat.completions.create({ model: 'tiny', messages, temperature: 9 }).catch((e) => e);
    assert.ok(bad instanceof OpenAI.BadRequestError, `${bad}`);
    assert.equal(bad.param, 'temperature');
    assert.equal(bad.type, 'invalid_request_error');
    const gone = await client.chat.completions.create({ model: 'none', messages }).catch((e) => e);
    assert.ok(gone instanceof OpenAI.NotFoundError, `${gone}`);
    assert.equal(gone.code, 'model_not_found');
    const many = await client.completions.create({ ...fixed, prompt: 'x', n: 128, max_tokens: 900 }).catch((e) => e);
    assert.ok(many instanceof OpenAI.RateLimitError, `${many}`);
    assert.ok(many.headers.get('retry-after'));
    const long = await client.chat.completions
      .create({ model: 'tiny', messages, max_tokens: 1000000, stream: true }).catch((e) => e);
    assert.equal(long.code, 'context_length_exceeded');
  },

  async 'a refused request is tried again, and taken when there is room'() {
    const full = client.completions.create({ ...fixed, prompt: 'x', n: 10, max_tokens: 100 });
    const patient = client.withOptions({ maxRetries: 8 });
    const more = await Promise.all(Array.from({ length: 3 }, () =>
      patient.completions.create({ ...fixed, prompt: 'x', n: 4, max_tokens: 5 })));
    assert.ok(more.every((c) => c.choices.length === 4));
    assert.equal((await full).choices.length, 10);
  },

  async 'a stream that is left is cancelled'() {
    const stream = await client.chat.completions.create({ ...fixed, messages, max_tokens: 50000, stream: true });
    let n = 0;
    for await (const chunk of stream) {
      assert.equal(chunk.object, 'chat.completion.chunk');
      if (++n === 5) break;
    }
    const aborted = client.completions.create({ ...fixed, prompt: 'x', max_tokens: 50000 },
      { signal: AbortSignal.timeout(200) });
    await assert.rejects(aborted, OpenAI.APIUserAbortError);
    const metrics = new URL('/metrics', baseURL);
    for (let i = 0; ; i++) {
      const text = await (await fetch(metrics)).text();
      if (/^mboold_requests_running(\{[^}]*\})? 0$/m.test(text)) break;
      assert.ok(i < 100, 'requests of clients that left still run');
      await new Promise((done) => setTimeout(done, 50));
    }
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
  } catch (why) {
    failed++;
    console.log(`${name}: ${why.stack ?? why}`);
  }
}
process.exit(failed ? 1 : 0);
