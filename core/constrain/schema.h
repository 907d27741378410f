/* A JSON schema to the grammar of texts that are valid under it.
 *
 * The grammar is a part of what the schema allows, never more: members come in the order of
 * "properties", numbers have at most 15 digits, strings one of their spellings, and where a schema says
 * nothing of a type ("properties" without "type") the type that it speaks of is meant.
 *
 *     type (a name or several), nullable   enum, const   anyOf; oneOf likewise: its branches are
 *     taken to exclude each other   allOf   $ref within the document, recursive too; $defs
 *     properties, required, additionalProperties (when absent: false if there are properties)
 *     items, prefixItems, additionalItems, minItems, maxItems
 *     minLength, maxLength, pattern (regex.h), format: date, date-time, time, uuid, email, ipv4
 *     minimum, maximum, exclusiveMinimum, exclusiveMaximum
 *
 * title, description, default, examples and their like say nothing of values. Everything else is
 * refused by its name.
 *
 * Threads: pure. */
#ifndef MB_CORE_SCHEMA_H
#define MB_CORE_SCHEMA_H

#include "core/constrain/grammar.h"
#include "proto/json_value.h"

/* Schema is an object or a boolean; NULL means {"type": "object"}. *ret is finished, and needs nothing
 * of schema.
 * Errors: MB_E_INVALID, MB_E_UNSUPPORTED naming the keyword; MB_E_LIMIT when the automaton would be
 *         too large; MB_E_NOMEM. */
enum mb_status mb_schema_compile(const struct mb_json_value *schema, struct mb_grammar *ret,
                                 struct mb_error *err);

#endif
