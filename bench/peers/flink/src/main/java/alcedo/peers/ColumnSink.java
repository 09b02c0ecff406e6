// Where the ring job's vectors end: counted, summed by column, and a sample written for the comparison with Alcedo.
package alcedo.peers;

import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;

/** One writer; its sums are read after the job has ended. */
final class ColumnSink implements Sink<float[]> {
  private static final long serialVersionUID = 1;

  /** Of all events, by column: how many were present, and their sum. Written by the one task there is. */
  static final long[] PRESENT = new long[CardFeatures.COLUMNS.length];
  static final double[] SUM = new double[CardFeatures.COLUMNS.length];
  /** Set before the job starts; the job runs in this process. */
  static Stopwatch stopwatch;

  private final String rowsPath;
  private final long every;

  /** `rowsPath`: null for no sample, otherwise a CSV of each `every`-th vector, the first among them. */
  ColumnSink(String rowsPath, long every) {
    this.rowsPath = rowsPath;
    this.every = every;
  }

  @Override
  public SinkWriter<float[]> createWriter(WriterInitContext context) throws IOException {
    return new Writer(rowsPath, every);
  }

  private static final class Writer implements SinkWriter<float[]> {
    private final long[] present = PRESENT;
    private final double[] sum = SUM;
    private final Stopwatch watch = stopwatch;
    private final PrintWriter rows;
    private final long every;
    private long written;

    Writer(String rowsPath, long every) throws IOException {
      this.every = every;
      rows = rowsPath == null ? null : new PrintWriter(Files.newBufferedWriter(Path.of(rowsPath)));
      if (rows != null) {
        rows.println(String.join(",", CardFeatures.COLUMNS));
      }
    }

    @Override
    public void write(float[] vector, Context context) {
      for (int column = 0; column < vector.length; ++column) {
        final float value = vector[column];
        if (value == value) { // not NaN
          ++present[column];
          sum[column] += value;
        }
      }
      if (rows != null && written++ % every == 0) {
        writeRow(vector);
      }
      watch.countAlone();
    }

    private void writeRow(float[] vector) {
      final StringBuilder line = new StringBuilder();
      for (float value : vector) {
        line.append(line.length() == 0 ? "" : ",").append(Float.isNaN(value) ? "nan" : Float.toString(value));
      }
      rows.println(line);
    }

    @Override
    public void flush(boolean endOfInput) {}

    @Override
    public void close() throws IOException {
      if (rows == null) {
        return;
      }
      rows.close();
      if (rows.checkError()) {
        throw new IOException("rows: not all was written; expected room on the disk");
      }
    }
  }
}
