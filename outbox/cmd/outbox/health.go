package main

import (
	"context"
	"flag"
)

var healthVerb = verb{
	name:  "health",
	short: "Reports whether the database can be used.",
	about: "The exit status is 0 if it can, and 1 if not.",
	define: func(c *command, _ *flag.FlagSet) func([]string) (action, error) {
		return func([]string) (action, error) {
			return func(ctx context.Context) error {
				if err := c.Health(ctx); err != nil {
					return err
				}
				return c.print(healthDocument{true}, "the database can be used")
			}, nil
		}
	},
}

type healthDocument struct {
	Healthy bool `json:"healthy"`
}
