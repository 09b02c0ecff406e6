// The one way in which both jobs run: Flink's own cluster inside this process, with one slot and nothing but the job.
package alcedo.peers;

import java.time.Duration;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.ExecutionOptions;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.configuration.MetricOptions;
import org.apache.flink.configuration.RestOptions;
import org.apache.flink.configuration.RestartStrategyOptions;
import org.apache.flink.configuration.StateBackendOptions;
import org.apache.flink.configuration.TaskManagerOptions;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/** State on the heap, no checkpoints, no restart after a failure, no metrics of latency. */
final class LocalCluster {
  /**
   * `bufferBytes`: of one network buffer. The larger, the fewer events stand between two operators for each of them that
   * is handed over; the smaller, the less a count at one operator runs ahead of another.
   */
  static StreamExecutionEnvironment environment(String bufferBytes) {
    final Configuration configuration = new Configuration();
    configuration.set(StateBackendOptions.STATE_BACKEND, "hashmap");
    configuration.set(RestartStrategyOptions.RESTART_STRATEGY, "none");
    configuration.set(RestOptions.BIND_ADDRESS, "127.0.0.1");
    configuration.set(RestOptions.ADDRESS, "127.0.0.1");
    configuration.set(RestOptions.BIND_PORT, "0");
    configuration.set(TaskManagerOptions.NUM_TASK_SLOTS, 1);
    configuration.set(TaskManagerOptions.MEMORY_SEGMENT_SIZE, MemorySize.parse(bufferBytes));
    configuration.set(TaskManagerOptions.NETWORK_MEMORY_MIN, MemorySize.parse("64m"));
    configuration.set(TaskManagerOptions.NETWORK_MEMORY_MAX, MemorySize.parse("64m"));
    configuration.set(TaskManagerOptions.MANAGED_MEMORY_SIZE, MemorySize.parse("0"));
    configuration.set(ExecutionOptions.BUFFER_TIMEOUT, Duration.ofMillis(100));
    configuration.set(MetricOptions.LATENCY_INTERVAL, Duration.ZERO);
    return StreamExecutionEnvironment.createLocalEnvironment(1, configuration);
  }

  private LocalCluster() {}
}
