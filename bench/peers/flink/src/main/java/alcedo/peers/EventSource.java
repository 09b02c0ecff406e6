// Feeds a stretch of the events' file to a job, so that what is timed is the job and not the making of events.
package alcedo.peers;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.api.connector.source.SourceSplit;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.core.io.InputStatus;
import org.apache.flink.core.io.SimpleVersionedSerializer;

/**
 * One split, for one reader. A bounded source ends its job, which fires what windows still hold; an unbounded one waits
 * after its last event until the job is cancelled. The reader hands out one object again and again: whatever keeps an
 * event behind it has to copy.
 */
final class EventSource implements Source<Event, EventSource.Range, Void> {
  private static final long serialVersionUID = 1;
  /** Calls of the reader cost as much as a small record: so many records a call. */
  private static final int EVENTS_PER_CALL = 64;

  private final String path;
  private final Range range;
  private final boolean bounded;

  EventSource(String path, long first, long events, boolean bounded) {
    this.path = path;
    this.range = new Range(first, first + events);
    this.bounded = bounded;
  }

  record Range(long next, long end) implements SourceSplit, java.io.Serializable {
    @Override
    public String splitId() {
      return "events";
    }
  }

  @Override
  public Boundedness getBoundedness() {
    return bounded ? Boundedness.BOUNDED : Boundedness.CONTINUOUS_UNBOUNDED;
  }

  @Override
  public SplitEnumerator<Range, Void> createEnumerator(SplitEnumeratorContext<Range> context) {
    return new Enumerator(context, range);
  }

  @Override
  public SplitEnumerator<Range, Void> restoreEnumerator(SplitEnumeratorContext<Range> context, Void checkpoint) {
    return new Enumerator(context, null);
  }

  @Override
  public SimpleVersionedSerializer<Range> getSplitSerializer() {
    return new RangeSerializer();
  }

  @Override
  public SimpleVersionedSerializer<Void> getEnumeratorCheckpointSerializer() {
    return new NothingSerializer();
  }

  @Override
  public SourceReader<Event, Range> createReader(SourceReaderContext context) throws IOException {
    return new Reader(new EventFile(path), bounded);
  }

  private static final class Enumerator implements SplitEnumerator<Range, Void> {
    private final SplitEnumeratorContext<Range> context;
    private Range unassigned;

    Enumerator(SplitEnumeratorContext<Range> context, Range unassigned) {
      this.context = context;
      this.unassigned = unassigned;
    }

    @Override
    public void start() {}

    @Override
    public void handleSplitRequest(int subtask, String host) {}

    @Override
    public void addSplitsBack(List<Range> splits, int subtask) {
      unassigned = splits.get(0);
    }

    @Override
    public void addReader(int subtask) {
      if (unassigned != null) {
        context.assignSplit(unassigned, subtask);
        unassigned = null;
      }
      context.signalNoMoreSplits(subtask);
    }

    @Override
    public Void snapshotState(long checkpoint) {
      return null;
    }

    @Override
    public void close() {}
  }

  private static final class Reader implements SourceReader<Event, Range> {
    private final EventFile file;
    private final boolean bounded;
    private final Event event = new Event();
    private final CompletableFuture<Void> assigned = new CompletableFuture<>();
    private final CompletableFuture<Void> never = new CompletableFuture<>();
    private long next;
    private long end = -1;

    Reader(EventFile file, boolean bounded) {
      this.file = file;
      this.bounded = bounded;
    }

    @Override
    public void start() {}

    @Override
    public InputStatus pollNext(ReaderOutput<Event> output) {
      if (end < 0) {
        return InputStatus.NOTHING_AVAILABLE;
      }
      final long stop = Math.min(end, next + EVENTS_PER_CALL);
      while (next < stop) {
        file.read(next++, event);
        output.collect(event, event.timeMs);
      }
      if (next < end) {
        return InputStatus.MORE_AVAILABLE;
      }
      return bounded ? InputStatus.END_OF_INPUT : InputStatus.NOTHING_AVAILABLE;
    }

    @Override
    public CompletableFuture<Void> isAvailable() {
      return next == end ? never : assigned;
    }

    @Override
    public List<Range> snapshotState(long checkpoint) {
      return List.of(new Range(next, end));
    }

    @Override
    public void addSplits(List<Range> splits) {
      next = splits.get(0).next();
      end = splits.get(0).end();
      if (end > file.size()) {
        throw new IllegalArgumentException(
            "events: the file has " + file.size() + "; expected " + end + " (write it anew)");
      }
      assigned.complete(null);
    }

    @Override
    public void notifyNoMoreSplits() {}

    @Override
    public void close() {}
  }

  private static final class RangeSerializer implements SimpleVersionedSerializer<Range> {
    @Override
    public int getVersion() {
      return 1;
    }

    @Override
    public byte[] serialize(Range range) {
      return ByteBuffer.allocate(16).putLong(range.next()).putLong(range.end()).array();
    }

    @Override
    public Range deserialize(int version, byte[] bytes) {
      final ByteBuffer buffer = ByteBuffer.wrap(bytes);
      return new Range(buffer.getLong(), buffer.getLong());
    }
  }

  private static final class NothingSerializer implements SimpleVersionedSerializer<Void> {
    @Override
    public int getVersion() {
      return 1;
    }

    @Override
    public byte[] serialize(Void nothing) {
      return new byte[0];
    }

    @Override
    public Void deserialize(int version, byte[] bytes) {
      return null;
    }
  }
}
