// Times a stretch of a job's work from inside, after the compiler has warmed up and before the job winds down.
package alcedo.peers;

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.GarbageCollectorMXBean;
import java.lang.management.ManagementFactory;
import java.util.Locale;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Counts units of work (outputs, or additions to windows) from `begin` to `end`. One a process: the cluster is in it.
 *
 * <p>CPU time is the whole process's: collector, compiler, source and exchange included. Threads: count() from any.
 */
final class Stopwatch {
  private static final OperatingSystemMXBean SYSTEM =
      (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

  private final AtomicLong shared = new AtomicLong();
  private final long begin;
  private final long end;
  private long alone;
  private long wallNs;
  private long cpuNs;
  private long collectorMs;
  private long heapBytes;
  private volatile boolean ended;

  Stopwatch(long begin, long end) {
    this.begin = begin;
    this.end = end;
    if (begin == 0) {
      start(); // nothing to warm up: what is timed includes the job's start
    }
  }

  /** A unit of work of one of several threads. */
  void count() {
    mark(shared.incrementAndGet());
  }

  /** A unit of work where one thread does all of it. */
  void countAlone() {
    mark(++alone);
  }

  private void mark(long units) {
    if (units == begin) {
      start();
    } else if (units == end) {
      stop();
    }
  }

  private synchronized void start() {
    System.gc(); // what the warm-up left behind is not the timed work's to collect
    heapBytes = ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getUsed();
    collectorMs = collectorMs();
    wallNs = System.nanoTime();
    cpuNs = SYSTEM.getProcessCpuTime();
  }

  private synchronized void stop() {
    cpuNs = SYSTEM.getProcessCpuTime() - cpuNs;
    wallNs = System.nanoTime() - wallNs;
    collectorMs = collectorMs() - collectorMs;
    ended = true;
  }

  boolean hasEnded() {
    return ended;
  }

  /** Call after the end. The fields of a JSON object; `state_bytes` is the live heap when the timed work began. */
  synchronized String json(long events) {
    return String.format(
        Locale.ROOT,
        "\"events\":%d,\"seconds\":%.6f,\"cpu_seconds\":%.6f,\"collector_seconds\":%.3f,\"state_bytes\":%d",
        events, wallNs / 1e9, cpuNs / 1e9, collectorMs / 1e3, heapBytes);
  }

  private static long collectorMs() {
    long sum = 0;
    for (GarbageCollectorMXBean collector : ManagementFactory.getGarbageCollectorMXBeans()) {
      sum += collector.getCollectionTime();
    }
    return sum;
  }
}
