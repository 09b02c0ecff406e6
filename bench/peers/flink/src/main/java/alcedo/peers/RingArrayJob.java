// The strongest Flink job for these features that we know how to write: what Alcedo's own engine is to be compared with.
package alcedo.peers;

import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamUtils;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/**
 * Source -> keyBy(card) -> CardFeatures on one ValueState -> sums, with object reuse and a serializer of its own. With
 * `--exchange no` the stream counts as keyed already and all of it is one chain: no event is serialized.
 *
 * <p>usage: RingArrayJob --file F --events N [--first N] [--warm-up N] [--exchange yes|no] [--rows CSV --every N]. Prints
 * one JSON object.
 */
public final class RingArrayJob {
  public static void main(String[] given) throws Exception {
    final Arguments arguments = new Arguments(given);
    final long warmUp = arguments.number("--warm-up", 0);
    final long events = arguments.number("--events", 0);
    final StreamExecutionEnvironment environment = LocalCluster.environment("32kb");
    environment.getConfig().enableObjectReuse();
    ColumnSink.stopwatch = new Stopwatch(warmUp, warmUp + events);
    final EventSource source =
        new EventSource(arguments.file(), arguments.number("--first", 0), warmUp + events, true);
    final DataStream<Event> stream =
        environment.fromSource(source, WatermarkStrategy.noWatermarks(), "events", new EventType());
    final KeyedStream<Event, Long> cards =
        "no".equals(arguments.text("--exchange"))
            ? DataStreamUtils.reinterpretAsKeyedStream(stream, event -> event.card, Types.LONG)
            : stream.keyBy(event -> event.card, Types.LONG);
    cards
        .process(new Rings(), PrimitiveArrayTypeInfo.FLOAT_PRIMITIVE_ARRAY_TYPE_INFO)
        .sinkTo(new ColumnSink(arguments.text("--rows"), arguments.number("--every", 1)));
    environment.execute("ring arrays");
    System.out.println(json(events));
  }

  private static String json(long events) {
    final StringBuilder columns = new StringBuilder();
    for (int column = 0; column < CardFeatures.COLUMNS.length; ++column) {
      columns.append(
          String.format(
              "%s\"%s\":{\"present\":%d,\"sum\":%s}",
              column == 0 ? "" : ",",
              CardFeatures.COLUMNS[column],
              ColumnSink.PRESENT[column],
              ColumnSink.SUM[column]));
    }
    return "{" + ColumnSink.stopwatch.json(events) + ",\"columns\":{" + columns + "}}";
  }

  /**
   * The heap backend hands out the array itself, and a copy of it while a snapshot is being written, so that an array
   * changed in place needs no second look-up: update() only where the array is another one.
   */
  private static final class Rings extends KeyedProcessFunction<Long, Event, float[]> {
    private static final long serialVersionUID = 1;
    private final CardFeatures features = new CardFeatures();
    private transient ValueState<long[]> cards;
    private transient float[] vector;

    @Override
    public void open(OpenContext context) {
      cards =
          getRuntimeContext()
              .getState(
                  new ValueStateDescriptor<>("card", PrimitiveArrayTypeInfo.LONG_PRIMITIVE_ARRAY_TYPE_INFO));
      vector = new float[CardFeatures.COLUMNS.length];
    }

    @Override
    public void processElement(Event event, Context context, Collector<float[]> out) throws Exception {
      final long[] known = cards.value();
      final long[] card = features.update(known == null ? CardFeatures.unseen() : known, event, vector);
      if (card != known) {
        cards.update(card);
      }
      out.collect(vector);
    }
  }

  private RingArrayJob() {}
}
