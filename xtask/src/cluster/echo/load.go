package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// load asks until it is told to end. Each second it prints how many requests it has made so far, how many of them had no
// answer or one that is not 200, how long the slowest was, and what went wrong last.
func load(ctx context.Context, args []string) error {
	var given question
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	given.flags(flags)
	each := flags.Duration("every", 20*time.Millisecond, "a request")
	limit := flags.Duration("for", 0, "how long (default: until it is told to end)")
	target, err := parseWithURL(flags, args)
	if err != nil {
		return err
	}
	if *limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *limit)
		defer cancel()
	}
	asker, err := given.to(target)
	if err != nil {
		return err
	}
	defer asker.close()
	var all tally
	for next, show := time.Now(), time.Now().Add(time.Second); ctx.Err() == nil; {
		began := time.Now()
		answer, err := asker.ask(context.WithoutCancel(ctx))
		all.add(time.Since(began), answer, err)
		if now := time.Now(); now.After(show) {
			fmt.Println(all.String())
			show = now.Add(time.Second)
		}
		next = next.Add(*each)
		if late := time.Since(next); late > 0 {
			// What was missed is not made up for.
			next = next.Add(late)
		}
		time.Sleep(time.Until(next))
	}
	fmt.Println(all.String())
	return nil
}

type tally struct {
	asked, failed int
	slowest       time.Duration
	why           string
}

func (t *tally) add(took time.Duration, answer answer, err error) {
	t.asked++
	t.slowest = max(t.slowest, took)
	switch {
	case err != nil:
		t.why = err.Error()
	case answer.status != http.StatusOK:
		t.why = fmt.Sprintf("%d: %s", answer.status, answer.text)
	default:
		return
	}
	t.failed++
	t.why = time.Now().UTC().Format("15:04:05.000 ") + strings.ReplaceAll(t.why, "\n", " ")
}

func (t *tally) String() string {
	return fmt.Sprintf("asked=%d failed=%d slowest=%dms why=%q", t.asked, t.failed, t.slowest.Milliseconds(), t.why)
}
