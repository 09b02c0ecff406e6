// The job that Flink's documentation leads to: the same statistics over sliding windows, one of which closes a slide.
package alcedo.peers;

import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.SlidingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

/**
 * keyBy(card) -> SlidingEventTimeWindows (1 min, 5 min, 1 h; slide = window / 60) -> AggregateFunction -> a sink, three
 * times. An event is added to 60 windows of each size; a window says its statistics when the watermark, 30 s behind the
 * newest event, passes its end.
 *
 * <p>usage: SlidingWindowsJob --file F --events N [--first N] [--warm-up N] [--panes CSV]. Prints one JSON object. Timed
 * runs are cancelled after the last addition; with `--panes` the job runs to its end and writes every window that closed.
 */
public final class SlidingWindowsJob {
  private static final long[] WINDOWS_S = {60, 300, 3600};
  private static final long WINDOWS_AN_EVENT = 3 * 60;
  private static final long LATENESS_S = 30;

  /** The job runs in this process. */
  private static Stopwatch stopwatch;

  private static final AtomicLong CLOSED = new AtomicLong();

  public static void main(String[] given) throws Exception {
    final Arguments arguments = new Arguments(given);
    final long warmUp = arguments.number("--warm-up", 0);
    final long events = arguments.number("--events", 0);
    final String panes = arguments.text("--panes");
    stopwatch = new Stopwatch(warmUp * WINDOWS_AN_EVENT, (warmUp + events) * WINDOWS_AN_EVENT);
    // Small buffers, so that no size of window runs far ahead of the others.
    final StreamExecutionEnvironment environment = LocalCluster.environment("4kb");
    final EventSource source =
        new EventSource(
            arguments.file(), arguments.number("--first", 0), warmUp + events, panes != null);
    final KeyedStream<Event, Long> cards =
        environment
            .fromSource(
                source, WatermarkStrategy.forBoundedOutOfOrderness(Duration.ofSeconds(LATENESS_S)), "events")
            .keyBy(event -> event.card, Types.LONG);
    for (long window : WINDOWS_S) {
      cards
          .window(SlidingEventTimeWindows.of(Duration.ofSeconds(window), Duration.ofSeconds(window / 60)))
          .aggregate(new Statistics(), new Close())
          .sinkTo(new CloseSink(panes == null ? null : panes + "." + window));
    }
    final JobClient job = environment.executeAsync("sliding windows");
    if (panes != null) {
      job.getJobExecutionResult().get();
    }
    while (!stopwatch.hasEnded()) {
      // A job that fails never counts to its end; get() then throws what happened.
      if (job.getJobStatus().get().isGloballyTerminalState()) {
        job.getJobExecutionResult().get();
      }
      Thread.sleep(100);
    }
    System.out.println("{" + stopwatch.json(events) + ",\"windows_closed\":" + CLOSED.get() + "}");
    if (panes == null) {
      job.cancel().get();
    }
    // The cluster's threads may outlive the job.
    System.exit(0);
  }

  private static final class Statistics implements AggregateFunction<Event, WindowStatistics, WindowStatistics> {
    private static final long serialVersionUID = 1;

    @Override
    public WindowStatistics createAccumulator() {
      return new WindowStatistics();
    }

    @Override
    public WindowStatistics add(Event event, WindowStatistics statistics) {
      statistics.add(event.amount);
      stopwatch.count();
      return statistics;
    }

    @Override
    public WindowStatistics getResult(WindowStatistics statistics) {
      return statistics;
    }

    @Override
    public WindowStatistics merge(WindowStatistics one, WindowStatistics other) {
      return one.merge(other);
    }
  }

  private static final class Close
      extends ProcessWindowFunction<WindowStatistics, WindowStatistics, Long, TimeWindow> {
    private static final long serialVersionUID = 1;

    @Override
    public void process(
        Long card, Context context, Iterable<WindowStatistics> all, Collector<WindowStatistics> out) {
      final WindowStatistics statistics = all.iterator().next();
      statistics.card = card;
      statistics.endMs = context.window().getEnd();
      out.collect(statistics);
    }
  }

  /** Counts the windows that closed, and writes them where a path is given. */
  private static final class CloseSink implements Sink<WindowStatistics> {
    private static final long serialVersionUID = 1;
    private final String path;

    CloseSink(String path) {
      this.path = path;
    }

    @Override
    public SinkWriter<WindowStatistics> createWriter(WriterInitContext context) throws IOException {
      final PrintWriter file = path == null ? null : new PrintWriter(Files.newBufferedWriter(Path.of(path)));
      if (file != null) {
        file.println("card,end_ms,count,sum,mean,std,min,max");
      }
      return new SinkWriter<>() {
        @Override
        public void write(WindowStatistics s, Context unused) {
          CLOSED.incrementAndGet();
          if (file != null) {
            file.println(
                Long.toUnsignedString(s.card) + "," + s.endMs + "," + s.count + "," + s.sum + "," + s.mean() + ","
                    + s.std() + "," + s.min + "," + s.max);
          }
        }

        @Override
        public void flush(boolean endOfInput) {}

        @Override
        public void close() throws IOException {
          if (file == null) {
            return;
          }
          file.close();
          if (file.checkError()) {
            throw new IOException(path + ": not all was written; expected room on the disk");
          }
        }
      };
    }
  }

  private SlidingWindowsJob() {}
}
