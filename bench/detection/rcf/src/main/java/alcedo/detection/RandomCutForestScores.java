// Scores of AWS's random cut forest, a row at a time, for series that lie in one binary file: a process a set, not one a series.
package alcedo.detection;

import com.amazon.randomcutforest.config.ForestMode;
import com.amazon.randomcutforest.config.Precision;
import com.amazon.randomcutforest.config.TransformMethod;
import com.amazon.randomcutforest.parkservices.ThresholdedRandomCutForest;
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * usage: RandomCutForestScores IN OUT SHINGLE. IN, big-endian: for each series int columns, int rows, then its values as floats, row by row.
 * OUT: a double a row, in the same order. Each series is learnt and scored in one pass; the seed is fixed, there is one thread.
 */
public final class RandomCutForestScores {
  private RandomCutForestScores() {}

  public static void main(String[] arguments) throws IOException {
    int shingle = Integer.parseInt(arguments[2]);
    try (DataInputStream in = new DataInputStream(new BufferedInputStream(Files.newInputStream(Path.of(arguments[0]))));
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(Files.newOutputStream(Path.of(arguments[1]))))) {
      while (true) {
        int columns;
        try {
          columns = in.readInt();
        } catch (EOFException end) {
          return;
        }
        int rows = in.readInt();
        ThresholdedRandomCutForest forest =
            ThresholdedRandomCutForest.builder()
                .dimensions(columns * shingle)
                .shingleSize(shingle)
                .numberOfTrees(50)
                .sampleSize(256)
                .precision(Precision.FLOAT_32)
                .randomSeed(42L)
                .parallelExecutionEnabled(false)
                .internalShinglingEnabled(true)
                .anomalyRate(0.005)
                .forestMode(ForestMode.STANDARD)
                .transformMethod(TransformMethod.NORMALIZE)
                .autoAdjust(true)
                .build();
        double[] row = new double[columns];
        for (int i = 0; i < rows; i++) {
          for (int j = 0; j < columns; j++) row[j] = in.readFloat();
          out.writeDouble(forest.process(row, i).getRCFScore());
        }
      }
    }
  }
}
