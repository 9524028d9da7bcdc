// franz-go with its defaults. `client produce BOOTSTRAP TOPIC` sends the lines of stdin as they come;
// `client consume BOOTSTRAP TOPIC GROUP COUNT` prints as many values, commits and leaves.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	if err := run(ctx, os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, verb, bootstrap string, args []string) error {
	seeds := kgo.SeedBrokers(strings.Split(bootstrap, ",")...)
	switch verb {
	case "produce":
		return produce(ctx, seeds, args[0])
	case "consume":
		count, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return consume(ctx, seeds, args[0], args[1], count)
	default:
		return fmt.Errorf("produce or consume, not %q", verb)
	}
}

func produce(ctx context.Context, seeds kgo.Opt, topic string) error {
	client, err := kgo.NewClient(seeds, kgo.DefaultProduceTopic(topic), kgo.AllowAutoTopicCreation())
	if err != nil {
		return err
	}
	defer client.Close()
	var failed kgo.FirstErrPromise
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		client.Produce(ctx, kgo.StringRecord(lines.Text()), failed.Promise())
	}
	return failed.Err()
}

func consume(ctx context.Context, seeds kgo.Opt, topic, group string, count int) error {
	client, err := kgo.NewClient(seeds, kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	if err != nil {
		return err
	}
	defer client.Close()
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for seen := 0; seen < count; {
		fetches := client.PollRecords(ctx, count-seen)
		if err := fetches.Err0(); err != nil {
			return err
		}
		for _, failed := range fetches.Errors() {
			return fmt.Errorf("%s-%d: %w", failed.Topic, failed.Partition, failed.Err)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			fmt.Fprintln(out, string(record.Value))
			seen++
		})
	}
	return client.CommitUncommittedOffsets(ctx)
}
