package main

import (
	"context"
	"flag"
	"io"

	"github.com/graphretry/graphretry/outbox/internal/store"
)

var schemaVerb = verb{
	name: "schema", offline: true,
	short: "Prints the SQL that creates the tables.",
	about: "It is for migrations of your own, and needs no database.",
	define: func(c *command, flags *flag.FlagSet) func([]string) (action, error) {
		dialect := flags.String("dialect", "postgres", "postgres or sqlite")
		return func([]string) (action, error) {
			kind := store.Kind(*dialect)
			switch {
			case kind != store.Postgres && kind != store.SQLite:
				return nil, wrongUsage("schema", "there is no dialect %q: want postgres or sqlite", *dialect)
			case !store.IsName(c.name):
				return nil, wrongUsage("schema", "-name is %q: want 1 to 40 lower-case letters, digits or underscores", c.name)
			}
			return func(context.Context) error {
				sql := store.Schema(kind, c.name)
				if c.asJSON {
					return c.encode(schemaDocument{sql})
				}
				_, err := io.WriteString(c.out, sql)
				return err
			}, nil
		}
	},
}

type schemaDocument struct {
	SQL string `json:"sql"`
}
